//! A program that is nothing but the shim, for this package's tests.

fn main() {
    let mut args = std::env::args_os().skip(1);
    let is_shim = args.next().is_some_and(|word| word == "shim");
    std::process::exit(if is_shim { slipway_sandbox::shim_main(args) } else { 2 });
}
