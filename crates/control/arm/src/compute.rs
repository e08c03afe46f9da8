//! `Microsoft.Compute/skus`: the VM sizes that node pools can have.

use axum::Json;

use pool::{SubscriptionId, VmSize};

use crate::api_version::ApiVersion;
use crate::error::ArmError;
use crate::filter::Filter;
use crate::path::At;
use crate::region::{self, Region};
use crate::types::{ResourceList, ResourceSku, SkuCapability, SkuLocation};

fn resource(size: &VmSize, location: &str) -> ResourceSku {
    let capability = |name: &str, value: u32| SkuCapability {
        name: name.to_owned(),
        value: value.to_string(),
    };
    let mut capabilities = vec![
        capability("vCPUs", size.vcpus),
        capability("MemoryGB", size.memory_gib),
    ];
    if size.gpu_count() > 0 {
        capabilities.push(capability("GPUs", size.gpu_count()));
    }
    let (tier, rest) = size.name.split_once('_').unwrap_or(("Standard", size.name));
    ResourceSku {
        resource_type: "virtualMachines".to_owned(),
        name: size.name.to_owned(),
        tier: tier.to_owned(),
        size: rest.to_owned(),
        locations: vec![location.to_owned()],
        location_info: vec![SkuLocation {
            location: location.to_owned(),
            zones: Vec::new(),
        }],
        capabilities,
        restrictions: Vec::new(),
    }
}

/// Every size is in every region.
pub(crate) async fn skus(
    _: ApiVersion,
    At(_): At<SubscriptionId>,
    filter: Filter,
) -> Result<Json<ResourceList<ResourceSku>>, ArmError> {
    let asked = filter
        .only(&["location"])?
        .get("location")
        .map(str::to_owned);
    let locations = match asked {
        Some(location) => vec![location],
        None => region::ALL.iter().map(Region::name).collect(),
    };
    let skus = VmSize::all().iter().flat_map(|size| {
        locations
            .iter()
            .map(move |location| resource(size, location))
    });
    Ok(Json(ResourceList::of(skus.collect())))
}
