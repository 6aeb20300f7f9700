//! Compiles the C shim of the variadic log slot.

fn main() {
    println!("cargo:rerun-if-changed=c/log_print.c");
    cc::Build::new().file("c/log_print.c").compile("dataplane_log_print");
}
