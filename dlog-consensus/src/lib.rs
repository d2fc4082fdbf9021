//! How replicas agree: one partition's replica around raft::RawNode. Pure.
