//! The kubelet's gRPC interfaces: device plugin v1beta1, pod resources v1, plugin registration v1
#![forbid(unsafe_code)]
