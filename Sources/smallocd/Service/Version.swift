/// The package's version, as `--version` tells it.
///
/// The protocol has its own.
let version = "0.1.0"
