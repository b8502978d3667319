//! The answers that a real Tempo gave, asked of the real binary. How they were recorded: `tests/src/bin/differential_tempo.rs`.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use trilobite_tests::Trilobite;
use trilobite_tests::differential::tempo::{Golden, ask, checksum, difference, golden_file, send, traces};

#[test]
fn answers_are_those_of_tempo() {
    let golden = Golden::read(&golden_file()).unwrap();
    let traces = traces(golden.seed);
    assert_eq!(
        golden.data,
        checksum(&traces),
        "the golden file is of other data: record it again"
    );
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--retention-traces", "36500d", "--wal-sync", "never"];
    let server = Trilobite::start(dir.path(), &flags).unwrap();
    send(server.otlp_http(), &traces).unwrap();
    let differences: Vec<String> = (golden.cases.iter())
        .filter_map(|(case, expected)| {
            let why = difference(expected, &ask(server.tempo(), case).unwrap())?;
            Some(format!("{case}\n    {why}"))
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} answers differ, among them\n{}",
        differences.len(),
        golden.cases.len(),
        differences[..differences.len().min(20)].join("\n")
    );
}
