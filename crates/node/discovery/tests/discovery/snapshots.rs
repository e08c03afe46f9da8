//! All labels of usual nodes, word for word.

use discovery::to_text;
use mig::MigStrategy::{Mixed, None, Single};

use crate::node::node_labels;

macro_rules! snapshot {
    ($name:ident, $boards:expr, $layout:literal, $strategy:expr) => {
        #[test]
        fn $name() {
            let labels = node_labels(&$boards, $layout, $strategy);
            insta::assert_snapshot!(stringify!($name), to_text(&labels));
        }
    };
}

snapshot!(a100_none, [("A100-40GB", 8)], "MIG1g", None);
snapshot!(a100_single, [("A100-40GB", 8)], "MIG1g", Single);
snapshot!(a100_mixed, [("A100-40GB", 8)], "MIG1g", Mixed);
snapshot!(a100_single_without_mig, [("A100-40GB", 8)], "off", Single);
snapshot!(
    a100_single_invalid,
    [("A100-40GB", 2)],
    "3g.20gb,2g.10gb,1g.5gb*2",
    Single
);
snapshot!(
    a100_several_layouts_mixed,
    [("A100-40GB", 4)],
    "0-1=3g.20gb,2g.10gb,1g.5gb+me,1g.5gb;2=1c.3g.20gb*3;3=off",
    Mixed
);
snapshot!(h200_none, [("H200-141GB", 8)], "off", None);
snapshot!(h200_single, [("H200-141GB", 8)], "MIG2g", Single);
snapshot!(
    h200_mixed,
    [("H200-141GB", 1)],
    "4g.71gb,1g.35gb,1g.18gb",
    Mixed
);
snapshot!(
    rtx_pro_6000_mixed,
    [("RTX-PRO-6000-Blackwell-96GB", 1)],
    "2g.48gb,1g.24gb+gfx,1g.24gb-me",
    Mixed
);
