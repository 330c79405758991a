//! The hook executable of the tests: does what the product's binary does at the start of its
//! `main` when git starts it as a hook.

fn main() {
    let program = std::env::args_os().next().unwrap_or_default();
    let status = slipway_git::is_hook(&program).map_or(2, slipway_git::hook_main);
    std::process::exit(status);
}
