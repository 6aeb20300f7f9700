//! The command line as a user types it.

mod support;

use support::Dataplane;

#[test]
fn the_command_of_fluent_bits_first_page_prints_samples() {
    let run =
        Dataplane::new().args(["-i", "cpu", "-t", "my.cpu", "-o", "stdout", "-m", "*"]).start();
    let text = run.wait_for_stdout(|text| text.contains("cpu0.p_cpu") && text.ends_with('\n'));
    assert!(text.starts_with("[0] my.cpu: [["), "{text}");
    let law = run.stop().law();
    assert!(law.delivered > 0 && law.dropped == 0 && law.left == 0, "{}", law.line);
}
