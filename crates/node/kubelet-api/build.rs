//! Generates the gRPC types from `proto/`, without protoc.

use std::error::Error;

const PROTOS: [&str; 3] = [
    "proto/deviceplugin_v1beta1.proto",
    "proto/podresources_v1.proto",
    "proto/pluginregistration_v1.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // Each file is a package of its own: they share no types, though two have some of one name.
    for proto in PROTOS {
        let set = protox::compile([proto], ["."])?;
        tonic_prost_build::configure()
            .build_client(true)
            .build_server(true)
            // Ordered maps, so that an answer is the same bytes each time.
            .btree_map(".")
            .emit_rerun_if_changed(false)
            .compile_fds(set)?;
    }
    Ok(())
}
