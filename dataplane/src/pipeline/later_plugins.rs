//! Names of Fluent Bit's plugins that do not exist here yet: someone who switches is told so, and not that
//! the name is unknown.

/// Inputs, sorted.
const INPUTS: &[&str] = &[
    "blob",
    "calyptia_fleet",
    "collectd",
    "cpu",
    "disk",
    "docker",
    "docker_events",
    "dummy",
    "ebpf",
    "elasticsearch",
    "event_type",
    "exec",
    "exec_wasi",
    "fluentbit_logs",
    "fluentbit_metrics",
    "forward",
    "gpu_metrics",
    "head",
    "health",
    "http",
    "kafka",
    "kmsg",
    "kubernetes_events",
    "lib",
    "mem",
    "mqtt",
    "netif",
    "nginx_metrics",
    "node_exporter_metrics",
    "opentelemetry",
    "podman_metrics",
    "proc",
    "process_exporter_metrics",
    "prometheus_remote_write",
    "prometheus_scrape",
    "prometheus_textfile",
    "random",
    "serial",
    "splunk",
    "statsd",
    "stdin",
    "syslog",
    "systemd",
    "tail",
    "tcp",
    "thermal",
    "udp",
    "unix_socket",
];

/// Filters, sorted.
const FILTERS: &[&str] = &[
    "alter_size",
    "aws",
    "checklist",
    "ecs",
    "expect",
    "geoip2",
    "grep",
    "kubernetes",
    "log_to_metrics",
    "lua",
    "modify",
    "multiline",
    "nest",
    "nightfall",
    "parser",
    "record_modifier",
    "rewrite_tag",
    "stdout",
    "sysinfo",
    "tensorflow",
    "throttle",
    "throttle_size",
    "type_converter",
    "wasm",
];

/// Outputs, sorted.
const OUTPUTS: &[&str] = &[
    "azure",
    "azure_blob",
    "azure_kusto",
    "azure_logs_ingestion",
    "bigquery",
    "calyptia",
    "chronicle",
    "cloudwatch_logs",
    "counter",
    "datadog",
    "elasticsearch",
    "es",
    "exit",
    "file",
    "flowcounter",
    "forward",
    "gcs",
    "gelf",
    "http",
    "influxdb",
    "kafka",
    "kafka-rest",
    "kinesis_firehose",
    "kinesis_streams",
    "lib",
    "logdna",
    "loki",
    "nats",
    "nrlogs",
    "null",
    "opensearch",
    "opentelemetry",
    "oracle_log_analytics",
    "pgsql",
    "plot",
    "prometheus_exporter",
    "prometheus_remote_write",
    "retry",
    "s3",
    "skywalking",
    "slack",
    "splunk",
    "stackdriver",
    "stdout",
    "syslog",
    "tcp",
    "td",
    "udp",
    "vivo_exporter",
    "websocket",
];

/// Fluent Bit's names of a kind, those of plugins that exist here among them.
pub fn of(kind: &str) -> &'static [&'static str] {
    match kind {
        "input" => INPUTS,
        "filter" => FILTERS,
        _ => OUTPUTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_hold_ours() {
        for kind in ["input", "filter", "output"] {
            assert!(of(kind).is_sorted(), "{kind}");
        }
        for plugin in crate::inputs::INPUTS {
            assert!(of("input").contains(&plugin.name), "{}", plugin.name);
        }
        for plugin in crate::filters::FILTERS {
            assert!(of("filter").contains(&plugin.name), "{}", plugin.name);
        }
        for plugin in crate::outputs::OUTPUTS {
            assert!(of("output").contains(&plugin.name), "{}", plugin.name);
        }
    }
}
