//! What came to PromQL late: windows with edges, fill, info series.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::lab;

#[test]
fn anchored_windows_begin_at_the_sample_before() {
    // A counter with a jump and a reset, every 15 s.
    let lab = lab(15_000, &[("m_total", "1 2 3 4 5 9 10 1 2 3")]);
    let cases: &[(f64, &[&str])] = &[
        (5.0, &["{} 0"]),
        (20.0, &["{} 1"]),
        (65.0, &["{} 4"]),
        (80.0, &["{} 7"]),
        // 4 before the left edge; a reset from 10 to 1 inside.
        (110.0, &["{} 7"]),
        (135.0, &["{} 4"]),
        // No sample is newer than the left edge.
        (195.5, &[]),
    ];
    for (at, want) in cases {
        lab.check("increase(m_total[1m] anchored)", *at, want);
    }
    lab.check("rate(m_total[1m] anchored)", 80.0, &["{} 0.116666667"]);
    lab.check("delta(m_total[1m] anchored)", 110.0, &["{} -3"]);
    lab.check("changes(m_total[1m] anchored)", 80.0, &["{} 4"]);
    lab.check("resets(m_total[1m] anchored)", 110.0, &["{} 1"]);
}

#[test]
fn smoothed_windows_end_between_samples() {
    let lab = lab(15_000, &[("m_total", "1 2 3 4 5 9 10 1 2 3")]);
    let cases: &[(f64, &[&str])] = &[
        (5.0, &["{} 0.333333333"]),
        (20.0, &["{} 1.333333333"]),
        (65.0, &["{} 5"]),
        (80.0, &["{} 7"]),
        // Left: a third of the way from 3 to 4. Right: a third of the way from the reset's 0 up to 1.
        (95.0, &["{} 7"]),
    ];
    for (at, want) in cases {
        lab.check("increase(m_total[1m] smoothed)", *at, want);
    }
    lab.check("m_total smoothed", 20.0, &[r#"{__name__="m_total"} 2.333333333"#]);
    lab.check("m_total smoothed", 140.0, &[r#"{__name__="m_total"} 3"#]);
}

#[test]
fn a_missing_partner_is_filled_in() {
    let lab = lab(
        60_000,
        &[
            ("l a=1", "10"),
            ("l a=2", "20"),
            ("r a=2", "200"),
            ("r a=3", "300"),
            ("many a=1 b=x", "1"),
            ("many a=1 b=y", "2"),
            ("many a=4 b=x", "3"),
        ],
    );
    let both: &[&str] = &[r#"{a="2"} 220"#, r#"{a="1"} 11"#, r#"{a="3"} 301"#];
    lab.check("l + fill(1) r", 0.0, both);
    lab.check("l + fill_left(1) r", 0.0, &[r#"{a="2"} 220"#, r#"{a="3"} 301"#]);
    lab.check("l + fill_right(-1) r", 0.0, &[r#"{a="2"} 220"#, r#"{a="1"} 9"#]);
    lab.check(
        "l < fill(15) r",
        0.0,
        &[
            r#"{__name__="l", a="2"} 20"#,
            r#"{__name__="l", a="1"} 10"#,
            r#"{a="3"} 15"#,
        ],
    );
    let grouped: &[&str] = &[
        r#"{a="1", b="x"} 11"#,
        r#"{a="1", b="y"} 12"#,
        r#"{a="4", b="x"} 103"#,
        r#"{a="2"} 120"#,
    ];
    lab.check("many + on(a) group_left fill_left(100) fill_right(100) l", 0.0, grouped);
    // Sides trade places under `group_right`: `fill_left` is for those who may be many.
    let grouped: &[&str] = &[r#"{a="1", b="x"} 11"#, r#"{a="1", b="y"} 12"#, r#"{a="2"} 120"#];
    lab.check("l + on(a) group_right fill_left(100) many", 0.0, grouped);
    lab.check("nothing + fill(5) l", 0.0, &[r#"{a="1"} 15"#, r#"{a="2"} 25"#]);
}

#[test]
fn info_series_describe_their_target() {
    let lab = lab(
        60_000,
        &[
            ("m instance=a job=1 data=mine", "1"),
            ("m instance=b job=1", "2"),
            ("m instance=c job=1", "3"),
            ("target_info instance=a job=1 data=theirs more=x", "1"),
            ("target_info instance=b job=1 data=theirs more=y", "1"),
            ("build_info instance=b job=1 build=7", "1"),
        ],
    );
    let enriched: &[&str] = &[
        r#"{__name__="m", data="mine", instance="a", job="1", more="x"} 1"#,
        r#"{__name__="m", data="theirs", instance="b", job="1", more="y"} 2"#,
        r#"{__name__="m", instance="c", job="1"} 3"#,
    ];
    lab.check("info(m)", 0.0, enriched);
    let named: &[&str] = &[r#"{__name__="m", instance="b", job="1", more="y"} 2"#];
    lab.check(r#"info(m, {more="y"})"#, 0.0, named);
    let built: &[&str] = &[r#"{__name__="m", build="7", data="theirs", instance="b", job="1", more="y"} 2"#];
    lab.check(r#"info(m{instance="b"}, {__name__=~".+_info"})"#, 0.0, built);
    let unknown: &[&str] = &[r#"{__name__="m", instance="b", job="1"} 2"#];
    lab.check(r#"info(m{instance="b"}, {__name__="no_info"})"#, 0.0, unknown);
    lab.check(r#"info(m, {nowhere=~".+"})"#, 0.0, &[]);
    let itself: &[&str] = &[r#"{__name__="build_info", build="7", instance="b", job="1"} 1"#];
    lab.check(r#"info(build_info, {__name__="build_info"})"#, 0.0, itself);
}
