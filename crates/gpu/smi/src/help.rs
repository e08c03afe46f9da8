//! What `-h` prints: the commands that there are, in migpool's own words.

use crate::reply::Reply;

const MAIN: &str = "\
NVIDIA System Management Interface, as migpool speaks it: nvidia-smi's everyday commands over NVML.

nvidia-smi [OPTION [ARG]] ...
nvidia-smi mig [OPTION [ARG]] ...        see nvidia-smi mig -h

    -h,   --help                Say this and exit.
          --version             Versions of the driver, NVML and CUDA.
    -L,   --list-gpus           The GPUs and their MIG devices, with their UUIDs.
    <no arguments>              A table of the GPUs, their MIG devices and processes.
          --query-gpu=FIELD,..  Single values of the GPUs, with
          --format=csv[,noheader][,nounits]
    -mig, --multi-instance-gpu= Switch MIG mode: 0/DISABLED, 1/ENABLED.

    -i,   --id=                 Only these GPUs: index, PCI bus id or UUID, separated by commas.";

const MIG: &str = "\
nvidia-smi mig: the GPU instances and compute instances of MIG-enabled GPUs.

    -h,     --help                              Say this and exit.
    -lgip,  --list-gpu-instance-profiles        GPU instance profiles, and how many more of each fit.
    -lgipp, --list-gpu-instance-possible-placements
                                                Where each may lie, as {start}:size.
    -lgi,   --list-gpu-instances                The GPU instances there are.
    -cgi,   --create-gpu-instance=P[:START],..  Create GPU instances by profile name or id, with
    -C,     --default-compute-instance          a compute instance as large as each.
    -dgi,   --destroy-gpu-instance              Destroy GPU instances.
    -lcip,  --list-compute-instance-profiles    Compute instance profiles, * the default.
    -lcipp, --list-compute-instance-possible-placements
                                                Where each may lie, as {start}:size.
    -lci,   --list-compute-instances            The compute instances there are.
    -cci,   --create-compute-instance[=P,..]    Create compute instances by profile name or id.
    -dci,   --destroy-compute-instance          Destroy compute instances.

    -i,     --id=                               Only these GPUs: index, PCI bus id or UUID.
    -gi,    --gpu-instance-id=                  Only these GPU instances.
    -ci,    --compute-instance-id=              Only these compute instances.";

pub(crate) fn main() -> Reply {
    Reply::new(0, MAIN)
}

pub(crate) fn mig() -> Reply {
    Reply::new(0, MIG)
}
