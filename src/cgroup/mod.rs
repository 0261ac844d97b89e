//! The numbers of a container, from cgroup v1 and v2.
