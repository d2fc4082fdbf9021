//! Compiles the published .proto files. protox parses them, so no protoc is needed on the machine.

use prost::Message;
use std::path::PathBuf;

const FILES: [&str; 5] =
    ["dlog/v1/common.proto", "dlog/v1/log.proto", "dlog/v1/admin.proto", "dlog/v1/cluster.proto", "dlog/v1/peer.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("dlog_descriptor.bin"), descriptors.encode_to_vec())?;
    // `bytes(".")`: payloads stay shared buffers from the socket to the disk. `btree_map`: settings in a stable order.
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
