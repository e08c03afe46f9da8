//! The kubelet's gRPC interfaces, as types, clients and servers.
//!
//! [`device_plugin::v1beta1`] is how a plugin advertises devices and hands them out,
//! [`pod_resources::v1`] is how anyone on the node learns which pod holds which device, and
//! [`plugin_registration::v1`] is the kubelet's plugin watcher. All three are generated from the
//! `.proto` files in `proto/`. [`uds`] is the transport they share: gRPC over a Unix socket, on
//! either side of it. [`holdings`] asks the second the one question that several of us have.
#![forbid(unsafe_code)]

pub mod holdings;
pub mod uds;

/// How devices are advertised and allocated.
pub mod device_plugin {
    /// Version v1beta1, the one that every supported kubelet speaks.
    #[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery)]
    pub mod v1beta1 {
        tonic::include_proto!("v1beta1");

        /// The version that a plugin names when it registers.
        pub const VERSION: &str = "v1beta1";
        /// The health of a device that can be given.
        pub const HEALTHY: &str = "Healthy";
        /// The health of a device that must not be given.
        pub const UNHEALTHY: &str = "Unhealthy";
        /// The kubelet's socket in the folder of device plugins.
        pub const KUBELET_SOCKET: &str = "kubelet.sock";
        /// The folder of device plugins on an ordinary node.
        pub const DEVICE_PLUGIN_DIR: &str = "/var/lib/kubelet/device-plugins";
        /// The longest device id that the kubelet takes, in characters.
        pub const MAX_DEVICE_ID: usize = 63;
    }
}

/// Which pod holds which device.
pub mod pod_resources {
    /// Version v1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery)]
    pub mod v1 {
        tonic::include_proto!("v1");

        /// The kubelet's socket for this interface on an ordinary node.
        pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
    }
}

/// The kubelet's plugin watcher.
pub mod plugin_registration {
    /// Version v1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery)]
    pub mod v1 {
        tonic::include_proto!("pluginregistration");

        /// The type that a device plugin gives in [`PluginInfo`].
        pub const DEVICE_PLUGIN: &str = "DevicePlugin";
    }
}
