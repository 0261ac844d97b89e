//! Container metrics: the inventory's names on the cgroup's numbers, in cAdvisor's families.
