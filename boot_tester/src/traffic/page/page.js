"use strict";
// Okabe and Ito's palette, which the colour-blind tell apart; numbers stand beside every colour.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8c8c8c"];
const colour = (node) => PALETTE[node % PALETTE.length];

const runs = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");

/** An element: attributes, functions as listeners, then children. */
function h(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "text", "title"].includes(tag) && attributes.svg !== false;
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && name !== "svg") element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}
const number = (n) => Math.round(n).toLocaleString("en-US");
const share = (part, all) => (all ? (100 * part / all).toFixed(1) + "%" : "\u2013");
const hex = (n) => "0x" + n.toString(16);
const ms = (ns) => (ns / 1e6).toLocaleString("en-US", { maximumFractionDigits: 3 }) + " ms";
const sum = (list) => list.reduce((a, b) => a + b, 0);
const section = (id, title, ...children) => h("section", { id }, h("h2", {}, title), ...children);

/** The measures of a cell of the matrix. */
const MEASURES = {
  "accesses": (c) => c.reads + c.writes,
  "reads": (c) => c.reads,
  "writes": (c) => c.writes,
  "bytes": (c) => c.read_bytes + c.write_bytes,
  "lines from memory": (c) => c.lines_read + c.lines_write,
  "lines from the node's caches": (c) => c.cache_clean + c.cache_modified,
};

function totals(run, who, measure) {
  let all = 0, remote = 0;
  run.matrix[who].forEach((row, from) => row.forEach((cell, to) => {
    const n = MEASURES[measure](cell);
    all += n;
    if (from !== to) remote += n;
  }));
  return { all, remote };
}

/** Rows of numbers and texts that sort by any column and filter by a word. */
function table(id, columns, rows, words, more = 0) {
  let by = columns.findIndex((c) => c.first), down = true, filter = "";
  const body = h("tbody");
  const heads = columns.map((column, index) => h("th", { scope: "col", class: column.text ? "text" : null },
    h("button", { type: "button", click: () => { down = by === index ? !down : !column.text; by = index; draw(); } }, column.name)));
  const count = h("span", { class: "soft", "aria-live": "polite" });
  const value = (row) => columns[by].of(row);
  function draw() {
    heads.forEach((head, index) => head.setAttribute("aria-sort", index !== by ? "none" : down ? "descending" : "ascending"));
    const shown = rows.filter((row) => words(row).toLowerCase().includes(filter));
    shown.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "string" ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    count.textContent = `${shown.length} of ${rows.length} rows${more ? ` (and ${number(more)} with less in the JSON)` : ""}`;
    body.replaceChildren(...shown.map((row) => h("tr", {}, columns.map((column) => {
      const text = column.show ? column.show(row) : number(column.of(row));
      return h("td", { class: column.text ? "text" : null }, text);
    }))));
  }
  const input = h("input", { type: "search", placeholder: "filter", "aria-label": `filter ${id}`,
    input: (event) => { filter = event.target.value.toLowerCase(); draw(); } });
  draw();
  return [h("div", { class: "controls" }, input, count),
    h("div", { class: "wide tall", tabindex: 0, role: "region", "aria-label": id }, h("table", { id: `table-${id}` }, h("thead", {}, h("tr", {}, heads)), body))];
}

const heat = (name) => [
  { name: "accesses", of: (r) => r.accesses, first: !name },
  { name: "remote", of: (r) => r.accesses ? r.remote / r.accesses : 0, show: (r) => share(r.remote, r.accesses) },
  { name: "lines", of: (r) => r.lines },
  { name: "remote lines", of: (r) => r.lines ? r.remote_lines / r.lines : 0, show: (r) => share(r.remote_lines, r.lines) },
];

function tiles(run) {
  const accesses = totals(run, "user", "accesses"), lines = totals(run, "user", "lines from memory");
  const tile = (name, value, more) => h("div", { class: "tile" }, name, h("b", {}, value), h("span", { class: "soft" }, more));
  return h("div", { class: "tiles" },
    tile("remote accesses", share(accesses.remote, accesses.all), `of ${number(accesses.all)}`),
    run.caches ? tile("remote lines", share(lines.remote, lines.all), `of ${number(lines.all)} from memory`) : null,
    run.caches ? tile("time for memory", ms(run.time_ns.total), "by the model; nothing overlaps") : null,
    run.caches ? tile("of it remoteness", share(run.time_ns.remoteness, run.time_ns.total), `if all were local: ${ms(run.time_ns.if_local)}`) : null);
}

function matrix(run, suffix) {
  const holder = h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "traffic matrix" });
  const pick = (label, options) => h("select", { "aria-label": label, change: draw }, options.map((o) => h("option", {}, o)));
  const measure = pick("measure", Object.keys(MEASURES).filter((m) => run.caches || !m.includes("lines")));
  const who = pick("whose accesses", run.kernel_counted ? ["user", "kernel"] : ["user"]);
  function draw() {
    const rows = run.matrix[who.value].map((row) => row.map(MEASURES[measure.value]));
    const most = Math.max(1, ...rows.flat());
    const nodes = run.topology.nodes.map((_, n) => n);
    holder.replaceChildren(h("table", { id: `matrix${suffix}` },
      h("caption", {}, `${measure.value}, ${who.value === "user" ? "the program's own" : "the kernel's on its behalf"}; row: CPU's node, column: memory's node`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "CPUs of"), nodes.map((n) => h("th", { scope: "col" }, `memory ${n}`)), h("th", { scope: "col" }, "remote"))),
      h("tbody", {}, rows.map((row, from) => h("tr", {}, h("th", { scope: "row" }, `node ${from}`),
        row.map((n, to) => h("td", { class: from === to ? "cell own" : "cell", "data-count": n,
          style: `background: color-mix(in oklab, var(--heat) ${(60 * Math.sqrt(n / most)).toFixed(0)}%, var(--card))` }, number(n))),
        h("td", {}, share(sum(row) - row[from], sum(row))))))));
  }
  draw();
  return [h("div", { class: "controls" }, measure, who), holder];
}

const END_NAMES = { l1: "L1", l2: "L2", l3: "L3 of the node", near_cache_clean: "another CPU's cache, clean",
  near_cache_modified: "another CPU's cache, modified", far_cache_clean: "another node's cache, clean",
  far_cache_modified: "another node's cache, modified", own_memory: "own node's memory", other_memory: "another node's memory" };

function ends() {
  const all = runs.map((run) => sum(Object.values(run.ends.user)));
  const width = (n, r) => (all[r] ? 100 * n / all[r] : 0);
  return h("div", { class: "wide" }, h("table", { id: "table-ends" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "where"), runs.map((_, r) => [h("th", { scope: "col" }, names[r] + "lines"), h("th", { scope: "col" }, "share"), h("th", { scope: "col" }, "")]))),
    h("tbody", {}, Object.entries(END_NAMES).filter(([key]) => runs.some((run) => run.ends.user[key])).map(([key, name]) => h("tr", {},
      h("th", { scope: "row", class: "text" }, name),
      runs.map((run, r) => [h("td", {}, number(run.ends.user[key])), h("td", {}, share(run.ends.user[key], all[r])),
        h("td", { style: "width: 30%" }, h("span", { class: "bar", style: `width: ${width(run.ends.user[key], r)}%` }))]))))));
}

const legend = (run, name) => h("ul", { class: "legend", "aria-label": name }, run.topology.nodes.map((_, n) =>
  h("li", {}, h("i", { style: `background: ${colour(n)}` }), `node ${n}`)));

/** A row a task: where it ran; the dark part of a stretch is its share of remote accesses. */
function timeline(run) {
  const tids = run.tasks.map((t) => t.tid).filter((tid) => run.spans.some((s) => s[1] === tid));
  if (!tids.length) return null;
  const begin = Math.min(...run.spans.map((s) => s[2])), end = Math.max(...run.spans.map((s) => s[3]));
  const width = 1000, left = 110, row = 24, scale = (width - left) / Math.max(1, end - begin);
  const nodeOf = {};
  run.topology.nodes.forEach((node, n) => node.cpus.forEach((cpu) => { nodeOf[cpu] = n; }));
  const marks = [];
  const names = Object.fromEntries(run.tasks.map((t) => [t.tid, t.name]));
  tids.forEach((tid, line) => {
    const y = line * row + 4;
    marks.push(h("text", { x: 0, y: y + 12, "font-size": 12 }, `${tid} ${names[tid]}`.slice(0, 17)));
    // Stretches that would be narrower than a pixel are drawn as one, as long as the node stays.
    let open = null, last = null;
    const close = () => {
      if (!open) return;
      const x = left + (open.from - begin) * scale, w = Math.max(1, (open.to - open.from) * scale);
      const part = open.accesses ? open.remote / open.accesses : 0;
      marks.push(h("g", {}, h("title", {}, `task ${tid} on node ${open.node}: ${number(open.accesses)} accesses, ${share(open.remote, open.accesses)} remote`),
        h("rect", { x: x.toFixed(2), y, width: w.toFixed(2), height: 16, fill: colour(open.node) }),
        h("rect", { x: x.toFixed(2), y: y + 16 * (1 - part), width: w.toFixed(2), height: 16 * part, fill: "#000", "fill-opacity": 0.45 })));
      if (last !== null && last !== open.node) marks.push(h("line", { x1: x, x2: x, y1: y - 3, y2: y + 19, stroke: "currentColor", "stroke-width": 1.5 }));
      last = open.node;
      open = null;
    };
    run.spans.filter((s) => s[1] === tid).sort((a, b) => a[2] - b[2]).forEach(([cpu, , from, to, accesses, remote]) => {
      const node = nodeOf[cpu];
      if (open && open.node === node && (from - open.to) * scale < 0.5 && (open.to - open.from) * scale < 1) {
        open = { ...open, to, accesses: open.accesses + accesses, remote: open.remote + remote };
      } else {
        close();
        open = { node, from, to, accesses, remote };
      }
    });
    close();
  });
  const height = tids.length * row + 20;
  marks.push(h("text", { x: left, y: height - 4, "font-size": 11 }, "0 ms"),
    h("text", { x: width, y: height - 4, "font-size": 11, "text-anchor": "end" }, ms(end - begin)));
  return section("time", "Threads over time", legend(run, "colours of the CPU's nodes"),
    h("p", { class: "soft" }, "Coloured by the CPU's node; dark from below: the share of remote accesses; a tall line: the thread moved to another node."),
    h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "threads over time" },
      h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "threads over time by CPU node", style: "min-width: 36rem; width: 100%" }, marks)));
}

/** Pages as they were packed: columns of numbers, 5 bits a character, low ones first. */
function unpack(run) {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const value = Object.fromEntries([...digits].map((digit, n) => [digit, n]));
  const nodes = run.topology.nodes.length, { count, packed, words } = run.pages;
  let at = 0;
  const next = () => {
    for (let number = 0, place = 1; ; place *= 32) {
      const digit = value[packed[at++]];
      number += (digit & 31) * place;
      if (digit < 32) return number;
    }
  };
  const column = () => {
    const list = [];
    while (list.length < count) {
      const number = next(), times = number % 2 ? next() + 2 : 1;
      for (let n = 0; n < times; n++) list.push(Math.floor(number / 2));
    }
    return list;
  };
  const [steps, lies, policies, reasons] = [column(), column(), column(), column()];
  const [accesses, lines] = [0, 1].map(() => Array.from({ length: nodes }, column));
  const word = (n) => (n ? words[n - 1] : "not known");
  let page = 0;
  return steps.map((step, n) => ({ page: page += step + 1, node: lies[n] - 1, policy: word(policies[n]), reason: word(reasons[n]),
    accesses: accesses.map((list) => list[n]), lines: lines.map((list) => list[n]) }));
}

/** A mapping's pages as squares: colour is the node, strength the heat. Zooms to a page. */
function space(run) {
  const pages = unpack(run);
  if (!pages.length) return null;
  const starts = run.mappings.filter((m) => m.start).sort((a, b) => a.start - b.start);
  const groups = starts.map((m, i) => ({ ...m, pages: pages.filter((p) => p.page * 4096 >= m.start && (i + 1 === starts.length || p.page * 4096 < starts[i + 1].start)) }))
    .filter((group) => group.pages.length);
  if (!groups.length) return null;
  groups.sort((a, b) => b.accesses - a.accesses);
  const total = (p) => sum(p.accesses);
  const user = (p) => p.accesses.indexOf(Math.max(...p.accesses));
  let group = groups[0], size = 10, at = 0, first = 0;
  const canvas = h("canvas", { tabindex: 0, role: "img", "aria-describedby": "page-text", "aria-label": "pages; arrow keys move, plus and minus zoom" });
  const text = h("p", { class: "live", id: "page-text", "aria-live": "polite" });
  const chosen = h("select", { "aria-label": "mapping", change: () => { group = groups[chosen.value]; at = first = 0; draw(); } },
    groups.map((g, i) => h("option", { value: i }, `${g.name} at ${hex(g.start)} (${number(g.pages.length)} pages)`)));
  const kind = h("select", { "aria-label": "colour by", change: () => draw() }, h("option", { value: "lies" }, "colour: node where it lies"), h("option", { value: "used" }, "colour: node that uses it most"));
  const columns = () => Math.max(1, Math.floor(canvas.width / size));
  const visible = () => columns() * Math.floor(canvas.height / size);
  const draw = () => {
    canvas.width = Math.min(1100, page.clientWidth - 4);
    canvas.height = Math.max(size, Math.min(320, Math.ceil(group.pages.length / Math.max(1, Math.floor(canvas.width / size))) * size));
    const pen = canvas.getContext("2d");
    const most = Math.log2(2 + Math.max(...group.pages.map(total)));
    if (at < first || at >= first + visible()) first = Math.max(0, Math.floor(at / columns()) * columns() - Math.floor(visible() / 2 / columns()) * columns());
    group.pages.slice(first, first + visible()).forEach((p, i) => {
      const node = kind.value === "lies" ? p.node : user(p);
      const gap = size > 4 ? 1 : 0;
      pen.globalAlpha = node < 0 ? 0.3 : 0.25 + 0.75 * Math.log2(2 + total(p)) / most;
      pen.fillStyle = node < 0 ? "#8c8c8c" : colour(node);
      pen.fillRect((i % columns()) * size, Math.floor(i / columns()) * size, size - gap, size - gap);
      if (size >= 16 && node >= 0) {
        pen.globalAlpha = 1;
        pen.fillStyle = "#000";
        pen.font = `${size - 6}px sans-serif`;
        pen.fillText(node, (i % columns()) * size + 3, Math.floor(i / columns()) * size + size - 5);
      }
    });
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 2;
    pen.strokeRect(((at - first) % columns()) * size - 1, Math.floor((at - first) / columns()) * size - 1, size + 1, size + 1);
    const p = group.pages[at];
    const by = (list) => list.map((n, node) => n ? `${number(n)} from node ${node}` : "").filter(Boolean).join(", ") || "none";
    text.textContent = `page ${hex(p.page * 4096)}: ${p.node < 0 ? "node not known" : `on node ${p.node}`}, policy ${p.policy}, reason ${p.reason}; accesses ${by(p.accesses)}; lines ${by(p.lines)}`;
  };
  const move = (to) => { at = Math.min(group.pages.length - 1, Math.max(0, to)); draw(); };
  const zoom = (factor) => { size = Math.min(40, Math.max(2, Math.round(size * factor))); draw(); };
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), PageUp: -visible(), PageDown: visible(), Home: -Infinity, End: Infinity };
    if (event.key in steps) move(at + steps[event.key]);
    else if (event.key === "+") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    move(first + Math.floor((event.clientY - box.top) * ratio / size) * columns() + Math.floor((event.clientX - box.left) * ratio / size));
  });
  addEventListener("resize", draw);
  requestAnimationFrame(draw);
  return section("space", "The address space", legend(run, "colours of nodes"),
    h("div", { class: "controls" }, chosen, kind, h("button", { type: "button", click: () => zoom(1.5) }, "zoom in"), h("button", { type: "button", click: () => zoom(1 / 1.5) }, "zoom out")),
    canvas, text);
}

const bits = (word) => {
  const mask = BigInt("0x" + word), list = [];
  for (let i = 0n; i < 64n; i++) if (mask >> i & 1n) {
    const last = list.at(-1);
    if (last && last[1] === Number(i) - 1) last[1]++; else list.push([Number(i), Number(i)]);
  }
  return list.map(([a, b]) => (a === b ? a : `${a}\u2013${b}`)).join(",");
};

/** The picture is a page of its own, with its own script: it zooms and searches. */
function flame(run) {
  if (!run.flame) return null;
  const height = Number(/<svg[^>]* height="(\d+)/.exec(run.flame)?.[1] ?? 600);
  // Drawn once and scaled: inside of another page it cannot measure itself.
  const picture = run.flame.slice(run.flame.indexOf("<svg")).replace("fluiddrawing = true", "fluiddrawing = false");
  return section("flame", "Where its time goes", h("p", { class: "soft" }, "Sampled in a run of its own, in which nothing was counted."),
    h("iframe", { title: "flame graph", srcdoc: `<!doctype html><style>body{margin:0}svg{width:100%;height:auto}</style>${picture}`,
      style: `width: 100%; height: ${height}px; border: 0` }));
}

function one(run) {
  const side = (s) => h("div", {}, `CPU ${s.cpu}: ${number(s.reads)} reads (bytes ${bits(s.read_bytes) || "none"}), ${number(s.writes)} writes (bytes ${bits(s.written_bytes) || "none"}) `,
    h("span", { class: "soft" }, s.functions.map((f) => f.name).join(", ")));
  return [
    section("advice", "Advice", run.advice.length
      ? h("ol", { class: "advice" }, run.advice.map((a) => h("li", {}, h("b", {}, a.what), `: remote ${share(a.remote_lines, a.lines)} would be ${share(a.then_remote_lines, a.lines)} of ${number(a.lines)}: `, h("code", {}, a.how))))
      : h("p", {}, "Nothing would save much.")),
    timeline(run),
    space(run),
    section("mappings", "Mappings", table("mappings", [
      { name: "mapping", text: true, of: (r) => r.name, show: (r) => r.name },
      { name: "address", of: (r) => r.start, show: (r) => (r.start ? hex(r.start) : "\u2013") },
      { name: "policy", text: true, of: (r) => r.policy, show: (r) => r.policy },
      { name: "pages", of: (r) => r.pages }, ...heat()], run.mappings, (r) => `${r.name} ${r.policy}`)),
    section("functions", "Functions", table("functions", [
      { name: "function", text: true, of: (r) => r.name, show: (r) => r.name },
      { name: "object", text: true, of: (r) => r.object, show: (r) => r.object.split("/").pop() }, ...heat()], run.functions, (r) => `${r.name} ${r.object}`, run.left_out.functions)),
    section("source", "Source lines", run.source_lines.length ? table("source", [
      { name: "line", text: true, of: (r) => `${r.file}:${String(r.line).padStart(6)}`, show: (r) => `${r.file}:${r.line}` },
      { name: "function", text: true, of: (r) => r.function, show: (r) => r.function },
      { name: "object", text: true, of: (r) => r.object, show: (r) => r.object.split("/").pop() }, ...heat()],
      run.source_lines, (r) => `${r.file}:${r.line} ${r.function} ${r.object}`, run.left_out.source_lines)
      : h("p", {}, "None of the program's files tells its source lines (compile with -g).")),
    flame(run),
    run.tasks_told ? section("tasks", "Tasks", table("tasks", [
      { name: "task", text: true, of: (r) => r.name, show: (r) => r.name },
      { name: "tid", of: (r) => r.tid, show: (r) => String(r.tid) }, { name: "pid", of: (r) => r.pid, show: (r) => String(r.pid) }, ...heat(),
      { name: "time", of: (r) => r.time_ns, show: (r) => ms(r.time_ns) }, { name: "remoteness", of: (r) => r.remoteness_ns, show: (r) => ms(r.remoteness_ns) }],
      run.tasks, (r) => `${r.name} ${r.tid}`)) : null,
    section("lines", "Lines that CPUs take from each other", table("lines", [
      { name: "address", of: (r) => r.address, show: (r) => hex(r.address) },
      { name: "moves", of: (r) => r.moves, first: true },
      { name: "sharing", text: true, of: (r) => r.sharing, show: (r) => r.sharing },
      { name: "mapping", text: true, of: (r) => r.mapping, show: (r) => r.mapping.split("/").pop() },
      { name: "sides", text: true, of: (r) => r.sides.length, show: (r) => h("div", {}, r.sides.map(side)) }],
      run.shared_lines, (r) => `${r.mapping} ${r.sharing} ${r.sides.flatMap((s) => s.functions.map((f) => f.name)).join(" ")}`)),
  ];
}

/** Two runs beside each other. */
function compare([a, b]) {
  const rows = [
    ["remote accesses", (r) => { const t = totals(r, "user", "accesses"); return t.all ? t.remote / t.all : 0; }, (x) => share(x, 1)],
    ["accesses", (r) => totals(r, "user", "accesses").all, number],
    ["remote lines", (r) => { const t = totals(r, "user", "lines from memory"); return t.all ? t.remote / t.all : 0; }, (x) => share(x, 1)],
    ["lines from memory", (r) => totals(r, "user", "lines from memory").all, number],
    ["invalidations", (r) => r.invalidations.user, number],
    ["time for memory", (r) => r.time_ns.total, ms],
    ["of it remoteness", (r) => r.time_ns.remoteness, ms],
  ];
  return h("div", { class: "wide" }, h("table", { id: "table-compare" },
    h("thead", {}, h("tr", {}, ["", "A", "B", "B to A"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([name, of, show]) => h("tr", {}, h("th", { scope: "row", class: "text" }, name), h("td", {}, show(of(a))), h("td", {}, show(of(b))),
      h("td", {}, of(a) ? (of(b) / of(a)).toFixed(2) + "\u00d7" : "\u2013"))))));
}

const names = runs.length > 1 ? ["A: ", "B: "] : [""];
const about = (run) => h("p", { class: "soft" }, [
  run.topology.name, run.caches ? `caches ${run.caches.name}` : "caches not modelled",
  run.sampled > 1 ? `one of ${run.sampled} blocks of accesses was looked at` : null,
  run.tasks_told ? null : "the kernel told no tasks: all user code is counted as one"].filter(Boolean).join(" \u00b7 "));
const sections = runs.length > 1 ? [section("compare", "Side by side", compare(runs))] : one(runs[0]);
page.replaceChildren(
  h("header", {}, runs.map((run, r) => [h("h1", {}, `${names[r]}Memory traffic of ${run.program}`), about(run)])),
  h("nav", { "aria-label": "sections" }, ["machine", "matrix-section", "ends", ...sections.filter(Boolean).map((s) => s.id)].map((id) =>
    h("a", { href: `#${id}` }, id.replace("-section", "")))),
  ...runs.map((run, r) => [runs.length > 1 ? h("h3", {}, names[r]) : null, tiles(run)]).flat().filter(Boolean),
  section("machine", "The machine", document.getElementById("topology").content.cloneNode(true)),
  section("matrix-section", "Traffic by node", h("div", { class: runs.length > 1 ? "pair" : "" }, runs.map((run, r) => h("div", {}, runs.length > 1 ? h("h3", {}, names[r]) : null, matrix(run, r || ""))))),
  runs.some((run) => run.caches) ? section("ends", "Where lines were found", ends()) : section("ends", "Where lines were found", h("p", {}, "Caches were not modelled.")),
  ...sections.filter(Boolean));
