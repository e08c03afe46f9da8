// Drives a simulated driver root through NVIDIA's own Go bindings: lists its GPUs, makes a slice, finds it again, destroys it.
//
// It takes the library's path, prints one JSON object for the test that runs it, and fails with the first call that is
// not answered as expected.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

type report struct {
	Driver      string   `json:"driver"`
	GPUs        []string `json:"gpus"`
	Placements  []uint32 `json:"placements"`
	ProfileName string   `json:"profile_name"`
	MigName     string   `json:"mig_name"`
	MigUUID     string   `json:"mig_uuid"`
	Slices      uint32   `json:"slices"`
	MemoryMiB   uint64   `json:"memory_mib"`
	InUse       string   `json:"in_use"`
	NoRoom      string   `json:"no_room"`
	Left        int      `json:"left"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: foreign LIBRARY")
		os.Exit(2)
	}
	found, err := run(nvml.New(nvml.WithLibraryPath(os.Args[1])))
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// must turns an NVML code into an error that names the call.
func must(call string, code nvml.Return) error {
	if code != nvml.SUCCESS {
		return fmt.Errorf("%s: %s (%d)", call, nvml.ErrorString(code), code)
	}
	return nil
}

func run(lib nvml.Interface) (found report, err error) {
	if err = must("Init", lib.Init()); err != nil {
		return
	}
	defer func() {
		if failed := must("Shutdown", lib.Shutdown()); err == nil {
			err = failed
		}
	}()
	var code nvml.Return
	if found.Driver, code = lib.SystemGetDriverVersion(); code != nvml.SUCCESS {
		return found, must("SystemGetDriverVersion", code)
	}
	count, code := lib.DeviceGetCount()
	if code != nvml.SUCCESS {
		return found, must("DeviceGetCount", code)
	}
	var gpu nvml.Device
	for index := range count {
		gpu, code = lib.DeviceGetHandleByIndex(index)
		if code != nvml.SUCCESS {
			return found, must("DeviceGetHandleByIndex", code)
		}
		name, code := gpu.GetName()
		if code != nvml.SUCCESS {
			return found, must("GetName", code)
		}
		found.GPUs = append(found.GPUs, name)
	}
	return found, slice(gpu, &found)
}

// slice makes a 3g slice on the GPU, looks at it from all sides and destroys it.
func slice(gpu nvml.Device, found *report) error {
	activation, code := gpu.SetMigMode(nvml.DEVICE_MIG_ENABLE)
	if code != nvml.SUCCESS || activation != nvml.SUCCESS {
		return fmt.Errorf("SetMigMode: %d, activation %d", code, activation)
	}
	profile, code := gpu.GetGpuInstanceProfileInfo(nvml.GPU_INSTANCE_PROFILE_3_SLICE)
	if code != nvml.SUCCESS {
		return must("GetGpuInstanceProfileInfo", code)
	}
	versioned, code := gpu.GetGpuInstanceProfileInfoV(nvml.GPU_INSTANCE_PROFILE_3_SLICE).V2()
	if code != nvml.SUCCESS {
		return must("GetGpuInstanceProfileInfoV", code)
	}
	for _, character := range versioned.Name {
		if character == 0 {
			break
		}
		found.ProfileName += string(rune(character))
	}
	placements, code := gpu.GetGpuInstancePossiblePlacements(&profile)
	if code != nvml.SUCCESS {
		return must("GetGpuInstancePossiblePlacements", code)
	}
	for _, placement := range placements {
		found.Placements = append(found.Placements, placement.Start)
	}
	instance, code := gpu.CreateGpuInstanceWithPlacement(&profile, &placements[0])
	if code != nvml.SUCCESS {
		return must("CreateGpuInstanceWithPlacement", code)
	}
	_, code = gpu.CreateGpuInstanceWithPlacement(&profile, &placements[0])
	found.NoRoom = nvml.ErrorString(code)
	computeProfile, code := instance.GetComputeInstanceProfileInfo(
		nvml.COMPUTE_INSTANCE_PROFILE_3_SLICE, nvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
	if code != nvml.SUCCESS {
		return must("GetComputeInstanceProfileInfo", code)
	}
	compute, code := instance.CreateComputeInstance(&computeProfile)
	if code != nvml.SUCCESS {
		return must("CreateComputeInstance", code)
	}
	if err := look(gpu, found); err != nil {
		return err
	}
	found.InUse = nvml.ErrorString(instance.Destroy())
	if err := must("ComputeInstanceDestroy", compute.Destroy()); err != nil {
		return err
	}
	if err := must("GpuInstanceDestroy", instance.Destroy()); err != nil {
		return err
	}
	left, code := gpu.GetGpuInstances(&profile)
	found.Left = len(left)
	return must("GetGpuInstances", code)
}

// look reads the first MIG device.
func look(gpu nvml.Device, found *report) error {
	mig, code := gpu.GetMigDeviceHandleByIndex(0)
	if code != nvml.SUCCESS {
		return must("GetMigDeviceHandleByIndex", code)
	}
	if found.MigName, code = mig.GetName(); code != nvml.SUCCESS {
		return must("GetName", code)
	}
	if found.MigUUID, code = mig.GetUUID(); code != nvml.SUCCESS {
		return must("GetUUID", code)
	}
	attributes, code := mig.GetAttributes()
	found.Slices, found.MemoryMiB = attributes.GpuInstanceSliceCount, attributes.MemorySizeMB
	return must("GetAttributes", code)
}
