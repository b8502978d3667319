//! The answers that a real Prometheus gave, asked of the real binary: no difference beyond float noise.
//! How they were recorded: `tests/src/bin/differential.rs`.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::collections::BTreeMap;

use trilobite_tests::differential::{
    Answer, Case, Golden, Recorded, ask, checksum, compliance_cases, dataset, difference, write,
};
use trilobite_tests::{Trilobite, golden_files};

#[test]
fn answers_are_those_of_prometheus() {
    let [generated, listed] = golden_files().map(|path| Golden::read(&path).unwrap());
    let series = dataset(generated.seed);
    assert_eq!(
        generated.data,
        checksum(&series),
        "the golden file is of other data: record it again"
    );
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--retention-metrics", "36500d", "--wal-sync", "never"];
    let server = Trilobite::start(dir.path(), &flags).unwrap();
    write(server.prometheus(), &series).unwrap();

    let texts: BTreeMap<u64, Case> = (compliance_cases().unwrap().into_iter())
        .map(|case| (Recorded::new(case.clone(), Answer::none()).key, case))
        .collect();
    let mut cases = generated.cases;
    // The list is not kept here; where it is not beside the checkout, its cases are left out.
    cases.extend(listed.cases.into_iter().filter_map(|mut one| {
        one.case = texts.get(&one.key)?.clone();
        Some(one)
    }));
    let differences: Vec<String> = (cases.iter())
        .filter_map(|one| {
            let found = ask(server.prometheus(), &one.case).unwrap();
            let why = difference(&one.case, &one.answer, &found)?;
            Some(format!("{:?}\n    {why}", one.case))
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} answers differ, among them\n{}",
        differences.len(),
        cases.len(),
        differences[..differences.len().min(20)].join("\n")
    );
}
