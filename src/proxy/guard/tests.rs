//! What finished requests say about their version, as `record` hears it from either lane.
