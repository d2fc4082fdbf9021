//! The simulator: production replicas and storage over simulated disks and network.
