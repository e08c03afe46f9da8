//! Azure's public regions.

/// A region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Azure's name for it.
    pub(crate) display_name: &'static str,
    /// Its part of the world.
    pub(crate) geography_group: &'static str,
}

impl Region {
    /// Its name in ARM's normal form: without spaces, in lower case.
    pub(crate) fn name(&self) -> String {
        self.display_name.replace(' ', "").to_ascii_lowercase()
    }
}

const fn region(geography_group: &'static str, display_name: &'static str) -> Region {
    Region {
        display_name,
        geography_group,
    }
}

/// The regions of Azure's public cloud, from Azure's documentation.
pub(crate) const ALL: &[Region] = &[
    region("US", "East US"),
    region("US", "East US 2"),
    region("US", "South Central US"),
    region("US", "West US"),
    region("US", "West US 2"),
    region("US", "West US 3"),
    region("US", "Central US"),
    region("US", "North Central US"),
    region("US", "West Central US"),
    region("Canada", "Canada Central"),
    region("Canada", "Canada East"),
    region("Mexico", "Mexico Central"),
    region("South America", "Brazil South"),
    region("South America", "Brazil Southeast"),
    region("South America", "Chile Central"),
    region("Europe", "North Europe"),
    region("Europe", "West Europe"),
    region("Europe", "UK South"),
    region("Europe", "UK West"),
    region("Europe", "France Central"),
    region("Europe", "France South"),
    region("Europe", "Germany West Central"),
    region("Europe", "Germany North"),
    region("Europe", "Switzerland North"),
    region("Europe", "Switzerland West"),
    region("Europe", "Norway East"),
    region("Europe", "Norway West"),
    region("Europe", "Sweden Central"),
    region("Europe", "Poland Central"),
    region("Europe", "Italy North"),
    region("Europe", "Spain Central"),
    region("Europe", "Austria East"),
    region("Middle East", "UAE North"),
    region("Middle East", "UAE Central"),
    region("Middle East", "Qatar Central"),
    region("Middle East", "Israel Central"),
    region("Africa", "South Africa North"),
    region("Africa", "South Africa West"),
    region("Asia Pacific", "East Asia"),
    region("Asia Pacific", "Southeast Asia"),
    region("Asia Pacific", "Australia East"),
    region("Asia Pacific", "Australia Southeast"),
    region("Asia Pacific", "Australia Central"),
    region("Asia Pacific", "Australia Central 2"),
    region("Asia Pacific", "New Zealand North"),
    region("Asia Pacific", "Indonesia Central"),
    region("Asia Pacific", "Malaysia West"),
    region("Asia Pacific", "Japan East"),
    region("Asia Pacific", "Japan West"),
    region("Asia Pacific", "Korea Central"),
    region("Asia Pacific", "Korea South"),
    region("Asia Pacific", "Central India"),
    region("Asia Pacific", "South India"),
    region("Asia Pacific", "West India"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_in_arms_normal_form_and_there_is_one_of_each() {
        let names: BTreeSet<String> = ALL.iter().map(Region::name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.contains("southcentralus"));
        for name in &names {
            assert_eq!(
                crate::resource_group::location(name).ok().as_ref(),
                Some(name)
            );
        }
    }
}
