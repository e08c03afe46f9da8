//! MIG boards, profiles, placements and layouts, and the planner
#![forbid(unsafe_code)]
