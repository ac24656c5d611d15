//! What system calls take, for those where random words would only ever be refused, and those that
//! are kept from calling at all, or often.

/// Kinds of arguments, a letter each: `f` descriptor, `p` pointer to a buffer, `l` length, `s` path,
/// `i` small number, `g` flags, `m` address in the arena, `P` process, `S` signal, `n` node mask
/// pointer, `R` request of ptrace, `T` the worker's tracee, `w` any word.
const TAKES: &[(u16, &str)] = &[
    (0, "fpl"),
    (1, "fpl"),
    (2, "sgi"),
    (3, "f"),
    (4, "sp"),
    (5, "fp"),
    (6, "sp"),
    (7, "pil"),
    (8, "fwi"),
    (9, "mlggfl"),
    (10, "mlg"),
    (11, "ml"),
    (12, "w"),
    (13, "Spp"),
    (14, "ippi"),
    (16, "fwp"),
    (17, "fplw"),
    (18, "fplw"),
    (19, "fpi"),
    (20, "fpi"),
    (21, "si"),
    (22, "p"),
    (23, "ipppp"),
    (25, "mlligm"),
    (26, "mlg"),
    (27, "mlp"),
    (28, "mli"),
    (29, "ili"),
    (30, "img"),
    (31, "iip"),
    (32, "f"),
    (33, "ff"),
    (35, "pp"),
    (36, "ip"),
    (38, "ipp"),
    (40, "ffpl"),
    (41, "iii"),
    (42, "fpl"),
    (43, "fpp"),
    (44, "fplgpl"),
    (45, "fplgpp"),
    (46, "fpg"),
    (47, "fpg"),
    (48, "fi"),
    (49, "fpl"),
    (50, "fi"),
    (51, "fpp"),
    (52, "fpp"),
    (53, "iiip"),
    (54, "fiipl"),
    (55, "fiipp"),
    (56, "gpppw"),
    (59, "spp"),
    (61, "Pppp"),
    (62, "PS"),
    (63, "p"),
    (64, "iig"),
    (65, "ipl"),
    (66, "iiip"),
    (67, "m"),
    (68, "ig"),
    (69, "iplg"),
    (70, "iplig"),
    (71, "iip"),
    (72, "fiw"),
    (73, "fi"),
    (74, "f"),
    (75, "f"),
    (76, "sl"),
    (77, "fl"),
    (78, "fpl"),
    (79, "pl"),
    (80, "s"),
    (81, "f"),
    (82, "ss"),
    (83, "si"),
    (84, "s"),
    (85, "si"),
    (86, "ss"),
    (87, "s"),
    (88, "ss"),
    (89, "spl"),
    (90, "si"),
    (91, "fi"),
    (92, "sii"),
    (93, "fii"),
    (94, "sii"),
    (95, "i"),
    (96, "pp"),
    (97, "ip"),
    (98, "ip"),
    (99, "p"),
    (100, "p"),
    (101, "RTww"),
    (109, "PP"),
    (117, "iii"),
    (121, "P"),
    (124, "P"),
    (125, "pp"),
    (126, "pp"),
    (127, "pi"),
    (128, "pppi"),
    (129, "PSp"),
    (130, "pi"),
    (131, "pp"),
    (132, "sp"),
    (133, "sii"),
    (137, "sp"),
    (138, "fp"),
    (140, "iP"),
    (141, "iPi"),
    (142, "Pp"),
    (143, "Pp"),
    (144, "Pip"),
    (145, "P"),
    (146, "i"),
    (147, "i"),
    (148, "Pp"),
    (149, "ml"),
    (150, "ml"),
    (151, "i"),
    (157, "iwwww"),
    (158, "iw"),
    (160, "ip"),
    (161, "s"),
    (165, "sssgp"),
    (166, "si"),
    (186, ""),
    (188, "sspli"),
    (191, "sspl"),
    (200, "PS"),
    (202, "migpmw"),
    (203, "Plp"),
    (204, "Plp"),
    (213, "i"),
    (216, "mliwi"),
    (217, "fpl"),
    (218, "p"),
    (220, "iplp"),
    (221, "fwli"),
    (222, "ipp"),
    (223, "iipp"),
    (224, "ip"),
    (228, "ip"),
    (229, "ip"),
    (230, "iipp"),
    (232, "fpii"),
    (233, "fifp"),
    (234, "PPS"),
    (235, "sp"),
    (237, "mlinlg"),
    (238, "inl"),
    (239, "pnlmi"),
    (247, "iPpgp"),
    (251, "iP"),
    (252, "iPi"),
    (253, ""),
    (254, "fsg"),
    (255, "fi"),
    (256, "Plnn"),
    (257, "fsgi"),
    (258, "fsi"),
    (259, "fsii"),
    (260, "fsiig"),
    (261, "fsp"),
    (262, "fspg"),
    (263, "fsg"),
    (264, "fsfs"),
    (265, "fsfsg"),
    (266, "sfs"),
    (267, "fspl"),
    (268, "fsi"),
    (269, "fsi"),
    (270, "ippppp"),
    (271, "pippl"),
    (272, "g"),
    (273, "pl"),
    (274, "Ppp"),
    (275, "fpfplg"),
    (276, "fflg"),
    (277, "fwwg"),
    (278, "fpig"),
    (279, "Plpppg"),
    (280, "fspg"),
    (281, "fpiipl"),
    (283, "ig"),
    (284, "i"),
    (285, "fgww"),
    (286, "fgpp"),
    (287, "fp"),
    (288, "fppg"),
    (289, "fplg"),
    (290, "ig"),
    (291, "g"),
    (292, "ffg"),
    (293, "pg"),
    (294, "g"),
    (295, "fpiww"),
    (296, "fpiww"),
    (297, "PPSp"),
    (298, "pPiig"),
    (299, "fpigp"),
    (302, "Pipp"),
    (303, "fsppg"),
    (306, "f"),
    (307, "fpig"),
    (308, "fg"),
    (309, "ppp"),
    (310, "Ppipig"),
    (311, "Ppipig"),
    (312, "PPiww"),
    (314, "Ppg"),
    (315, "Pplg"),
    (316, "fsfsg"),
    (317, "igp"),
    (318, "plg"),
    (319, "sg"),
    (322, "fsppg"),
    (324, "igi"),
    (325, "mlg"),
    (326, "fpfplg"),
    (327, "fpiwwg"),
    (328, "fpiwwg"),
    (332, "fsggp"),
    (424, "fSpg"),
    (434, "Pg"),
    (435, "pl"),
    (436, "iig"),
    (437, "fspl"),
    (438, "fig"),
    (439, "fsig"),
    (440, "fpiig"),
    (441, "fpippl"),
    (449, "pigpi"),
    (450, "mlii"),
    (452, "fsig"),
    (454, "miig"),
    (455, "mwwgpi"),
    (456, "pgii"),
];

/// What the call takes; any words where nothing is known.
pub fn of(number: u64) -> &'static str {
    let found = TAKES.iter().find(|(own, _)| u64::from(*own) == number);
    found.map_or("wwwwww", |(_, takes)| takes)
}

/// Calls that end the machine or the harness, each for its reason.
pub fn left_out(number: u64) -> bool {
    match number {
        // reboot.
        169 => true,
        // rt_sigreturn without a frame: only ever the caller's own end.
        15 => true,
        // mount, umount2, pivot_root, move_mount and the like: what the harness reads would be gone.
        165 | 166 | 155 | 428..=433 | 442 => true,
        _ => false,
    }
}

/// Calls that wait, or end the caller: seldom, or a run would be nothing else.
pub fn seldom(number: u64) -> bool {
    matches!(
        number,
        0 | 7
            | 19
            | 20
            | 23
            | 34
            | 35
            | 42
            | 43
            | 45
            | 47
            | 56
            | 57
            | 58
            | 59
            | 60
            | 61
            | 62
            | 65
            | 69
            | 70
            | 73
            | 128
            | 129
            | 130
            | 200
            | 202
            | 220
            | 230
            | 231
            | 232
            | 234
            | 247
            | 270
            | 271
            | 275
            | 276
            | 278
            | 281
            | 288
            | 297
            | 299
            | 317
            | 322
            | 435
            | 441
            | 449
            | 455
    )
}
