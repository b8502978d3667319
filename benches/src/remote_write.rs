//! Remote write 1.0 requests as a lab's Prometheus sends them: 113 names, about 180 bytes a sample before snappy.

use crate::START_NS;

/// The requests of scrape `n`, 15 s after the one before, with at most `samples` samples each.
pub fn scrape(labels: &[Vec<u8>], n: usize, samples: usize) -> Vec<Vec<u8>> {
    let t = (START_NS / 1_000_000) as u64 + n as u64 * 15_000;
    let request = |labels: &[Vec<u8>]| {
        let mut request = Vec::new();
        for (i, labels) in labels.iter().enumerate() {
            let v = if i % 2 == 0 { i as f64 } else { (n * i) as f64 * 0.25 };
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&v.to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, t);
            let mut series = labels.clone();
            field(&mut series, 2, &sample);
            field(&mut request, 1, &series);
        }
        snap::raw::Encoder::new().compress_vec(&request).expect("compresses")
    };
    labels.chunks(samples).map(request).collect()
}

/// The labels of series `i`, as fields of a `TimeSeries`.
pub fn labels(i: usize) -> Vec<u8> {
    let host = i / 113 % 16;
    let pairs = [
        (
            "__name__",
            format!("lab_subsystem_operation_{}_seconds_bucket", i % 113),
        ),
        ("env", "lab".to_owned()),
        ("host", format!("host-{host:02}")),
        ("instance", format!("host-{host:02}:9100")),
        ("job", "node-exporter".to_owned()),
        ("le", format!("{}", i / 113 / 16)),
        ("service", "backend".to_owned()),
    ];
    let mut out = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut out, 1, &label);
    }
    out
}

fn field(out: &mut Vec<u8>, number: u8, payload: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}
