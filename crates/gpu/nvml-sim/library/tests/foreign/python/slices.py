"""Drives a simulated driver root through NVIDIA's own Python bindings.

Lists the GPUs, makes a slice on the last one, finds it again and destroys it. Takes the library's path, prints one JSON
object for the test that runs it, and fails with the first call that is not answered as expected.
"""

import ctypes
import json
import sys

import pynvml as nvml


def text_of(code):
    """NVML's text of the error that `code` raises."""
    try:
        code()
    except nvml.NVMLError as error:
        return str(error)
    return "Success"


def main(library):
    # pynvml looks for the soname only; a library that is loaded already under that path is given to it.
    nvml.nvmlLib = ctypes.CDLL(library)
    nvml.nvmlInit()
    found = {"driver": nvml.nvmlSystemGetDriverVersion()}
    gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    found["gpus"] = [nvml.nvmlDeviceGetName(gpu) for gpu in gpus]
    gpu = gpus[-1]
    status = nvml.nvmlDeviceSetMigMode(gpu, nvml.NVML_DEVICE_MIG_ENABLE)
    assert status in (None, nvml.NVML_SUCCESS), status

    three = nvml.NVML_GPU_INSTANCE_PROFILE_3_SLICE
    profile = nvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, three, version=2)
    found["profile_name"] = profile.name if isinstance(profile.name, str) else profile.name.decode()
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu, profile.id, None, ctypes.byref(count))
    placements = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu, profile.id, placements, ctypes.byref(count))
    found["placements"] = [placement.start for placement in placements]
    first = ctypes.byref(placements[0])
    instance = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile.id, first)
    found["no_room"] = text_of(
        lambda: nvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile.id, first)
    )
    compute_profile = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(
        instance, nvml.NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE, 0
    )
    compute = nvml.nvmlGpuInstanceCreateComputeInstance(instance, compute_profile.id)

    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)
    found["mig_name"] = nvml.nvmlDeviceGetName(mig)
    found["mig_uuid"] = nvml.nvmlDeviceGetUUID(mig)
    attributes = nvml.nvmlDeviceGetAttributes(mig)
    found["slices"] = attributes.gpuInstanceSliceCount
    found["memory_mib"] = attributes.memorySizeMB

    found["in_use"] = text_of(lambda: nvml.nvmlGpuInstanceDestroy(instance))
    nvml.nvmlComputeInstanceDestroy(compute)
    nvml.nvmlGpuInstanceDestroy(instance)
    instances = (nvml.c_nvmlGpuInstance_t * 8)()
    nvml.nvmlDeviceGetGpuInstances(gpu, profile.id, instances, ctypes.byref(count))
    found["left"] = count.value
    nvml.nvmlShutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
