//! The statistics that every Loki answer ends with: all members that Loki writes, of which most can only be zero in one
//! process. Grafana shows the `summary`.

use std::fmt::Write;

use query_logql::Stats;

const CACHES: [&str; 10] = [
    "chunk",
    "index",
    "result",
    "statsResult",
    "volumeResult",
    "seriesResult",
    "labelResult",
    "instantMetricResult",
    "logResult",
    "taskResult",
];
const CACHE: &str = r#"{"entriesFound":0,"entriesRequested":0,"entriesStored":0,"bytesReceived":0,"bytesSent":0,"requests":0,"downloadTime":0,"queryLengthServed":0}"#;
const DATA_OBJECTS: &str = r#"{"prePredicateDecompressedRows":0,"prePredicateDecompressedBytes":0,"prePredicateDecompressedStructuredMetadataBytes":0,"postPredicateRows":0,"postPredicateDecompressedBytes":0,"postPredicateStructuredMetadataBytes":0,"postFilterRows":0,"pagesScanned":0,"pagesDownloaded":0,"pagesDownloadedBytes":0,"pageBatches":0,"totalRowsAvailable":0,"totalPageDownloadTime":0,"wireBytesTransferred":0}"#;
const INDEX: &str = r#"{"totalChunks":0,"postFilterChunks":0,"shardsDuration":0,"usedBloomFilters":false,"totalStreams":0,"chunkRefsLookupTime":0,"bloomFilterTime":0}"#;

/// Writes what a query took, in `seconds`.
pub(crate) fn push_stats(out: &mut String, s: &Stats, seconds: f64) {
    let per_second = |n: u64| if seconds > 0.0 { (n as f64 / seconds) as u64 } else { 0 };
    let _ = write!(
        out,
        r#"{{"summary":{{"bytesProcessedPerSecond":{},"linesProcessedPerSecond":{},"totalBytesProcessed":{},"totalLinesProcessed":{},"execTime":{seconds},"queueTime":0,"subqueries":0,"totalEntriesReturned":{},"splits":1,"shards":1,"totalPostFilterLines":{},"totalStructuredMetadataBytesProcessed":0}},"querier":{{"store":"#,
        per_second(s.bytes),
        per_second(s.lines),
        s.bytes,
        s.lines,
        s.entries,
        s.entries,
    );
    push_store(out, s);
    let _ = write!(
        out,
        r#","querierExecTime":{seconds}}},"ingester":{{"totalReached":1,"totalChunksMatched":0,"totalBatches":0,"totalLinesSent":0,"store":"#
    );
    push_store(out, &Stats::default());
    out.push_str("},\"cache\":{");
    for (i, name) in CACHES.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\"{name}\":{CACHE}");
    }
    let _ = write!(out, "}},\"index\":{INDEX}}}");
}

fn push_store(out: &mut String, s: &Stats) {
    let _ = write!(
        out,
        r#"{{"totalChunksRef":{},"totalChunksDownloaded":{},"chunksDownloadTime":0,"queryReferencedStructuredMetadata":false,"queryUsedV2Engine":false,"chunk":{{"headChunkBytes":0,"headChunkLines":0,"decompressedBytes":{},"decompressedLines":{},"compressedBytes":0,"totalDuplicates":0,"postFilterLines":{},"headChunkStructuredMetadataBytes":0,"decompressedStructuredMetadataBytes":0}},"chunkRefsFetchTime":0,"congestionControlLatency":0,"pipelineWrapperFilteredLines":0,"dataobj":{DATA_OBJECTS}}}"#,
        s.runs, s.runs, s.bytes, s.lines, s.entries
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_json() {
        let mut out = String::new();
        push_stats(
            &mut out,
            &Stats {
                bytes: 10,
                lines: 2,
                entries: 1,
                runs: 1,
                damaged_chunks: 0,
            },
            0.5,
        );
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["summary"]["bytesProcessedPerSecond"], 20);
        assert_eq!(json["querier"]["store"]["totalChunksRef"], 1);
        assert_eq!(json["querier"]["querierExecTime"], 0.5);
        assert_eq!(json["ingester"]["store"]["dataobj"]["pagesScanned"], 0);
        assert_eq!(json["cache"]["taskResult"]["requests"], 0);
        assert_eq!(json["index"]["usedBloomFilters"], false);
    }
}
