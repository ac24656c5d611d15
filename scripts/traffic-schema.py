"""Checks `proxima run --traffic --json` files against docs/traffic.schema.json: traffic-schema.py FILE..."""
import json, sys, pathlib

schema = json.loads((pathlib.Path(__file__).parent.parent / "docs/traffic.schema.json").read_text())
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
         "boolean": bool, "null": type(None)}


def check(value, rule, at):
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[kind]) for kind in kinds):
        yield f"{at}: {value!r:.40} is no {kinds}"
        return
    if "const" in rule and value != rule["const"] or "enum" in rule and value not in rule["enum"]:
        yield f"{at}: {value!r:.40}"
    if "minimum" in rule and value < rule["minimum"]:
        yield f"{at}: {value} is below {rule['minimum']}"
    if isinstance(value, dict) and "properties" in rule:
        for key in set(rule["required"]) - value.keys():
            yield f"{at}: no {key}"
        for key, item in value.items():
            if key in rule["properties"]:
                yield from check(item, rule["properties"][key], f"{at}.{key}")
            else:
                yield f"{at}: {key} is not in the schema"
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from check(item, rule.get("items", {}), f"{at}[{index}]")


wrong = [line for path in sys.argv[1:] for line in check(json.load(open(path)), schema, path)]
print("\n".join(wrong[:20]) or f"{len(sys.argv) - 1} files hold to the schema")
sys.exit(bool(wrong))
