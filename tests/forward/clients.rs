//! Clients that others wrote.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::support::clients::go_client;
use crate::support::{Dataplane, folder};

const EVENTS: u64 = 100_000;

#[test]
fn fluent_logger_for_go_gets_an_ack_for_each_of_100_000_events() {
    let Some(client) = go_client("go-forward") else { return };
    let folder = folder();
    let socket = folder.path().join("forward.sock");
    let config = format!(
        "[SERVICE]\n    shards 2\n    flush 0.2\n\
         [INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n\
         [INPUT]\n    name forward\n    unix_path {}\n    unix_perm 0640\n\
         [OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key off\n",
        socket.display()
    );
    // Left over from a run that was killed: it is replaced.
    drop(UnixListener::bind(&socket).expect("a socket in a folder of our own"));
    let run = Dataplane::with_config(&config).started();
    let mode = std::fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let address = run.address("forward.0");
    let port = address.port().to_string();
    let path = socket.to_str().expect("a path of letters");
    let half = (EVENTS / 2).to_string();
    let start = |network: &str, host: &str| {
        let mut command = Command::new(&client);
        command.args([network, host, &port, "16", &half]).stdout(std::process::Stdio::piped());
        command.spawn().expect("the client starts")
    };
    for client in [start("tcp", "127.0.0.1"), start("unix", path)] {
        let output = client.wait_with_output().expect("the client ends");
        assert!(output.status.success(), "the client failed; our log:\n{}", run.log());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), half);
    }
    let ended = run.stop();
    let law = ended.law();
    assert_eq!((law.came_in, law.delivered), (EVENTS, EVENTS), "{}", law.line);
    // Each half of them once: 0 to 49,999 over each network.
    let mut seen = vec![0u8; EVENTS as usize / 2];
    for line in ended.text().lines() {
        let rest = line.split_once("\"n\":").expect("an event of the client").1;
        let digits = rest.split([',', '}']).next().expect("a number");
        seen[digits.parse::<usize>().expect("a number")] += 1;
    }
    assert!(seen.iter().all(|count| *count == 2), "lost or doubled");
}
