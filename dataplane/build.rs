//! Lets modules for Lua that are written in C find the functions of the machine in the program that loads them.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for functions in ["lua_*", "luaL_*"] {
        println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol={functions}");
    }
}
