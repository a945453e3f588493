//! Compiles `proto/` with protox: no protoc is needed, and no generated code is committed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

/// Relative to this crate.
const PROTO_ROOT: &str = "../../proto";
const FILES: [&str; 10] = [
    "value",
    "fact",
    "ingest",
    "catalog",
    "serving",
    "join",
    "store_fault",
    "erasure",
    "store",
    "admin",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let files = FILES.map(|name| format!("millrace/v1/{name}.proto"));
    let descriptors = protox::compile(files, [PROTO_ROOT])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("millrace.v1.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Payloads are passed on as slices of the received frame, never copied.
        .bytes(".millrace.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
