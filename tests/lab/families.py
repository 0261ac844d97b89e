"""Every family of a container that the agent exports, and its oracle: on cgroup v1 and on v2.

A family that is exported and stands in none of these lists fails the proof: nothing is exported unproven."""

import oracles as o
import oracles_host as h
from oracles import TICK, Oracle, both, of_container, stat
from oracles_host import HEALTH, STATES, of_host, state

# Groups that are off by default.
GROUPS = "tcp,udp,advtcp,process,hugetlb,numa,sched,cpuset,cpu_topology"
# The agent's settings: everything on, and layers counted as often as may be.
ENVIRONMENT = {"SKEP_CONTAINERS_ENABLE": GROUPS, "SKEP_CONTAINERS_DISK_INTERVAL": "1s"}

# What only a sequence of events proves: life.py does. After a container has gone they stay for an hour.
EVENTS = {"container_exits_total", "container_exited_total", "container_exited_cpu_seconds_total", "container_exited_oom_kills_total"}
# What stays likewise, and is in a file as long as the container runs.
STAYS = {"container_oom_events_total"}
# What no file and no answer of the engine's tells, while the container runs (True) or does not: the engine forgets how the last run ended when the next one begins.
NOT_IN_FILES = {"container_oom_events_total": False, "container_last_exit_code": True}
# The engine calls a paused container unhealthy when it is asked, and tells it by no event: what it was before is as right.
NOT_WHEN_PAUSED = {"container_state_health_status", "container_health_state"}
# Of the agent itself, without a container.
OWN = {"container_scrape_error": 0}


def _info(answer, container):
    """1, and what it says is what the engine says."""
    if not container.id:
        return
    told = container.reading().told
    config, settings = told["Config"], told["HostConfig"]
    wanted = {"image_id": told["Image"], "hostname": config["Hostname"], "log_driver": settings["LogConfig"]["Type"], "network_mode": settings["NetworkMode"],
              "restart_policy": settings["RestartPolicy"]["Name"], "tty": str(config["Tty"]).lower()}
    found = answer.of("container_info", container)
    if len(found) != 1 or found[0][1] != 1:
        yield f"{container.name}: {found}"
        return
    for label, value in found[0][0].items():
        if label not in ("id", "name", "image", "host") and not label.startswith("container_label_") and wanted.get(label) != value:
            yield f"{container.name}: {label}={value}, not {wanted.get(label)}"


def _counted(answer, container):
    """When the layer was counted: since the container was made, and not in the future."""
    for own, value in answer.of("container_fs_usage_timestamp_seconds", container) if container.id else []:
        if not h.moment(container.reading().told["Created"]) - 1 <= value <= answer.time + 1:
            yield f"{container.name}: {value}"


# Those that are not a number to be read anywhere.
INFO = {"container_info": _info, "container_fs_usage_timestamp_seconds": _counted}


# family: (kind, on v1, on v2); None where the kernel does not tell it.
_NETWORK = {f"container_network_{direction}_{what}_total": ("counter", *both(o.net_dev(first + column)))
            for direction, first in (("receive", 0), ("transmit", 8))
            for column, what in enumerate(("bytes", "packets", "errors", "packets_dropped"))}

_PRESSURE = {f"container_pressure_{resource}_{word}_seconds_total": ("counter", *both(o.pressure(resource, kind)))
             for resource in ("cpu", "memory", "io") for word, kind in (("waiting", "some"), ("stalled", "full"))}

def _file(name):
    return of_container(lambda r: r.number("memory", name))


def _pids(name):
    return of_container(lambda r: r.number("pids", name))


def _root_too(name):
    return lambda r: r.number("memory", name)


_CPU = {
    "container_cpu_usage_seconds_total": ("counter", o.cpu_each, o.cpu_sum),
    "container_cpu_user_seconds_total": ("counter", lambda r: r.key("cpuacct", "cpuacct.stat", "user", TICK), lambda r: r.key("cpu", "cpu.stat", "user_usec", 1e6)),
    "container_cpu_system_seconds_total":
        ("counter", lambda r: r.key("cpuacct", "cpuacct.stat", "system", TICK), lambda r: r.key("cpu", "cpu.stat", "system_usec", 1e6)),
    "container_cpu_cfs_periods_total": ("counter", o.throttled(o.quota_v1, "nr_periods"), o.throttled(o.quota_v2, "nr_periods")),
    "container_cpu_cfs_throttled_periods_total": ("counter", o.throttled(o.quota_v1, "nr_throttled"), o.throttled(o.quota_v2, "nr_throttled")),
    "container_cpu_cfs_throttled_seconds_total": ("counter", o.throttled(o.quota_v1, "throttled_time", 1e9), o.throttled(o.quota_v2, "throttled_usec", 1e6)),
    "container_cpu_cfs_burst_periods_total": ("counter", o.throttled(o.quota_v1, "nr_bursts"), o.throttled(o.quota_v2, "nr_bursts")),
    "container_cpu_cfs_burst_seconds_total": ("counter", o.throttled(o.quota_v1, "burst_time", 1e9), o.throttled(o.quota_v2, "burst_usec", 1e6)),
    "container_spec_cpu_period": ("fixed", o.period_v1, o.period_v2),
    "container_spec_cpu_quota": ("fixed", o.quota_v1, o.quota_v2),
    "container_spec_cpu_shares": ("fixed", of_container(lambda r: r.number("cpu", "cpu.shares")), o.shares_v2),
    "container_spec_cpu_limit_cores": ("state", *both(h.cores)),
    "container_cpu_cfs_throttled_periods_ratio": ("ratio", o.ratio(o.quota_v1), o.ratio(o.quota_v2)),
}

_MEMORY = {
    "container_memory_usage_bytes": ("memory", _root_too("memory.usage_in_bytes"), o.usage_v2),
    "container_memory_working_set_bytes":
        ("memory", o.working_set(_root_too("memory.usage_in_bytes"), o.memory("inactive_file")), o.working_set(o.usage_v2, stat("inactive_file"))),
    "container_memory_rss": ("memory", o.memory("rss"), stat("anon")),
    "container_memory_cache": ("memory", o.memory("cache"), stat("file")),
    "container_memory_mapped_file": ("memory", o.memory("mapped_file"), stat("file_mapped")),
    "container_memory_swap": ("memory", o.memory("swap"), _file("memory.swap.current")),
    "container_memory_max_usage_bytes": ("counter", _root_too("memory.max_usage_in_bytes"), _file("memory.peak")),
    "container_memory_kernel_usage": ("memory", _root_too("memory.kmem.usage_in_bytes"), stat("kernel")),
    "container_memory_total_active_file_bytes": ("memory", o.memory("active_file"), stat("active_file")),
    "container_memory_total_inactive_file_bytes": ("memory", o.memory("inactive_file"), stat("inactive_file")),
    "container_memory_file_dirty_bytes": ("memory", o.memory("dirty"), stat("file_dirty")),
    "container_memory_file_writeback_bytes": ("memory", o.memory("writeback"), stat("file_writeback")),
    "container_memory_shmem_bytes": ("memory", o.memory("shmem"), stat("shmem")),
    "container_memory_slab_reclaimable_bytes": ("memory", None, stat("slab_reclaimable")),
    "container_memory_slab_unreclaimable_bytes": ("memory", None, stat("slab_unreclaimable")),
    "container_memory_failcnt": ("counter", _root_too("memory.failcnt"), lambda r: r.key("memory", "memory.events", "max")),
    "container_memory_events_high_total": ("counter", None, lambda r: r.key("memory", "memory.events", "high")),
    "container_memory_events_max_total": ("counter", None, lambda r: r.key("memory", "memory.events", "max")),
    "container_memory_pgscan_total": ("counter", None, stat("pgscan")),
    "container_memory_pgsteal_total": ("counter", None, stat("pgsteal")),
    "container_memory_workingset_refault_file_total": ("counter", o.memory("workingset_refault_file"), stat("workingset_refault_file")),
    "container_memory_workingset_refault_anon_total": ("counter", o.memory("workingset_refault_anon"), stat("workingset_refault_anon")),
    "container_memory_failures_total": ("counter", *both(o.failures)),
    "container_oom_events_total": ("counter", of_container(lambda r: r.key("memory", "memory.oom_control", "oom_kill")),
                                   lambda r: r.key("memory", "memory.events", "oom_kill")),
    "container_memory_numa_pages": ("pages", *both(o.numa)),
    "container_memory_migrate": ("fixed", of_container(lambda r: r.number("cpuset", "cpuset.memory_migrate")), None),
    "container_hugetlb_usage_bytes": ("memory", o.hugetlb("usage_in_bytes", None), o.hugetlb(None, "current")),
    "container_hugetlb_max_usage_bytes": ("counter", o.hugetlb("max_usage_in_bytes", None), None),
    "container_hugetlb_failcnt": ("counter", o.hugetlb("failcnt", None), o.hugetlb(None, "events")),
    "container_spec_memory_limit_bytes": ("fixed", o.memory_limit(_file("memory.limit_in_bytes")), o.memory_limit(_file("memory.max"))),
    "container_spec_memory_swap_limit_bytes": ("fixed", _file("memory.memsw.limit_in_bytes"), o.swap_limit_v2),
    "container_spec_memory_reservation_limit_bytes": ("fixed", _file("memory.soft_limit_in_bytes"), _file("memory.low")),
}

_OPERATIONS = {word: word for word in ("Read", "Write", "Sync", "Async", "Discard", "Total")}


def _disk(of_containers_v1, of_containers_v2, *of_the_host):
    host = h.diskstats(*of_the_host)
    return tuple(h.either(read or (lambda _: None), host) for read in (of_containers_v1, of_containers_v2))


# Under the host's id its disks, under a container's what its cgroup counts.
_DISK = {
    "container_fs_reads_bytes_total": ("counter", *_disk(*o.io("io_service_bytes", "Read", "rbytes"), 5, 512)),
    "container_fs_writes_bytes_total": ("counter", *_disk(*o.io("io_service_bytes", "Write", "wbytes"), 9, 512)),
    "container_fs_reads_total": ("counter", *_disk(*o.io("io_serviced", "Read", "rios"), 3)),
    "container_fs_writes_total": ("counter", *_disk(*o.io("io_serviced", "Write", "wios"), 7)),
    "container_fs_reads_merged_total": ("counter", *_disk(None, None, 4)),
    "container_fs_writes_merged_total": ("counter", *_disk(None, None, 8)),
    "container_fs_sector_reads_total": ("counter", *_disk(None, None, 5)),
    "container_fs_sector_writes_total": ("counter", *_disk(None, None, 9)),
    "container_fs_read_seconds_total": ("counter", *_disk(None, None, 6, 1e-3)),
    "container_fs_write_seconds_total": ("counter", *_disk(None, None, 10, 1e-3)),
    "container_fs_io_current": ("requests", *_disk(None, None, 11)),
    "container_fs_io_time_seconds_total": ("counter", *_disk(None, None, 12, 1e-3)),
    "container_fs_io_time_weighted_seconds_total": ("counter", *_disk(None, None, 13, 1e-3)),
    "container_blkio_device_usage_total": (
        "counter", h.either(o.device_usage(o.blkio("io_service_bytes"), _OPERATIONS), h.disk_operations),
        h.either(o.device_usage(o.io_stat, {"rbytes": "Read", "wbytes": "Write", "dbytes": "Discard"}), h.disk_operations)),
    **{f"container_fs_io_cost_{word}_seconds_total": ("counter", None, o.io_cost(word)) for word in ("usage", "wait", "indebt", "indelay")},
}

_PROCESSES = {
    "container_processes": ("tasks", *both(o.processes)),
    "container_threads": ("tasks", *both(_pids("pids.current"))),
    "container_threads_max": ("fixed", *both(_pids("pids.max"))),
    "container_file_descriptors": ("descriptors", *both(o.descriptors(False))),
    "container_sockets": ("tasks", *both(o.descriptors(True))),
    "container_tasks_state": ("threads", *both(o.tasks_state)),
    "container_ulimits_soft": ("fixed", *both(o.ulimits)),
    "container_cpu_schedstat_run_seconds_total": ("of processes", *both(o.schedstat(0, 1e9))),
    "container_cpu_schedstat_runqueue_seconds_total": ("of processes", *both(o.schedstat(1, 1e9))),
    "container_cpu_schedstat_run_periods_total": ("of processes", *both(o.schedstat(2, 1))),
}

def _killed(name):
    """What the engine says, or 1 where the kernel has counted a kill in this run: an engine hears of it late, or not at all."""
    def read(reading):
        return int(reading.told["State"]["OOMKilled"] or bool(reading.key("memory", name, "oom_kill"))) if reading.told else None
    return read


_SOCKETS = {
    **{f"container_network_{version}_usage_total": ("tasks", *both(o.tcp(version))) for version in ("tcp", "tcp6")},
    **{f"container_network_{version}_usage_total": ("tasks", *both(o.udp(version))) for version in ("udp", "udp6")},
    "container_network_advance_tcp_stats_total": ("counter", *both(o.advanced_tcp)),
    "container_network_info": ("fixed", *both(o.networks)),
}

_ENGINE = {
    "container_start_time_seconds": ("fixed", *both(state(lambda s: h.moment(s["StartedAt"])))),
    "container_creation_time_seconds": ("fixed", *both(lambda r: h.moment(r.told["Created"]) if r.told else None)),
    "container_health_state": ("fixed", *both(state(lambda s: {None: -1, "healthy": 1}.get(h.health(s), 0)))),
    "container_state_status": ("state", *both(h.one_of(STATES, lambda s: s["Status"]))),
    "container_state_health_status": ("state", *both(h.one_of(HEALTH, h.health))),
    "container_restartcount": ("state", *both(lambda r: r.told["RestartCount"] if r.told else None)),
    "container_last_exit_code": ("state", *both(state(h.exit_code))),
    "container_state_oomkilled": ("state", _killed("memory.oom_control"), _killed("memory.events")),
    "container_finish_time_seconds": ("state", *both(state(lambda s: h.moment(s["FinishedAt"])))),
    "container_last_seen": ("time", *both(lambda r: r.time)),
}

_FILES = {
    "container_fs_layer_bytes": ("files", *both(h.layer)),
    "container_fs_layer_inodes": ("files", *both(h.layer_inodes)),
    "container_fs_log_bytes": ("files", *both(h.log_bytes)),
    "container_fs_usage_bytes": ("files", *both(h.on_device(h.usage))),
    "container_fs_limit_bytes": ("fixed", *both(h.file_system(lambda at: at.f_blocks * at.f_frsize))),
    "container_fs_inodes_total": ("fixed", *both(h.file_system(lambda at: at.f_files))),
    "container_fs_inodes_free": ("files", *both(h.file_system(lambda at: at.f_ffree))),
}

_MACHINE = {
    "machine_cpu_cores": ("fixed", *both(of_host(lambda: len(h.processors())))),
    "machine_cpu_physical_cores": ("fixed", *both(of_host(lambda: len({cpu[2:] for cpu in h.processors()})))),
    "machine_cpu_sockets": ("fixed", *both(of_host(lambda: len({cpu[2] for cpu in h.processors()})))),
    # s390 alone has these.
    "machine_cpu_books": ("fixed", *both(of_host(lambda: 0))),
    "machine_cpu_drawers": ("fixed", *both(of_host(lambda: 0))),
    "machine_memory_bytes": ("fixed", *both(h.meminfo("MemTotal"))),
    "machine_swap_bytes": ("fixed", *both(h.meminfo("SwapTotal"))),
    "machine_scrape_error": ("fixed", *both(of_host(lambda: 0))),
    # No machine of the lab has modules that tell of themselves.
    "machine_dimm_count": ("fixed", None, None),
    "machine_dimm_capacity_bytes": ("fixed", None, None),
    "machine_nvm_capacity": ("fixed", None, None),
    "machine_node_memory_capacity_bytes": ("fixed", *both(of_host(h.node_memory))),
    "machine_node_hugepages_count": ("fixed", *both(of_host(h.node_huge_pages))),
    "machine_node_distance": ("fixed", *both(of_host(h.node_distances))),
    "machine_thread_siblings_count": ("fixed", *both(of_host(h.siblings))),
    "machine_cpu_cache_capacity_bytes": ("fixed", *both(of_host(h.caches))),
}

# Of these the host's own need not be told.
OF_THE_HOST = ("container_fs_", "container_blkio_", "container_network_")

FILES = tuple(_FILES)

# What is not exported in every build, or on no machine of the lab: a family of these that is missing altogether is no fault.
MAY_BE_MISSING = {
    *(name for name in (*_DISK, *_PROCESSES, *_SOCKETS, *_FILES, *_MACHINE) if name not in (
        "container_fs_reads_bytes_total", "container_fs_writes_bytes_total", "container_fs_reads_total", "container_fs_writes_total", "container_processes",
        "container_threads", "container_threads_max", "machine_cpu_cores", "machine_memory_bytes", "machine_swap_bytes")),
    "container_hugetlb_usage_bytes", "container_hugetlb_max_usage_bytes", "container_hugetlb_failcnt", "container_memory_numa_pages", "container_memory_migrate",
    "container_memory_shmem_bytes", "container_memory_slab_reclaimable_bytes", "container_memory_slab_unreclaimable_bytes",
    "container_cpu_cfs_throttled_periods_ratio", "container_spec_cpu_limit_cores", "container_finish_time_seconds", "container_state_oomkilled",
}


def table(version):
    """The oracles of a cgroup version by family."""
    rows = {**_CPU, **_MEMORY, **_DISK, **_NETWORK, **_PRESSURE, **_PROCESSES, **_SOCKETS, **_ENGINE, **_FILES, **_MACHINE}
    return {name: Oracle(kind, (v1 if version == 1 else v2) or (lambda _: None)) for name, (kind, v1, v2) in rows.items()}
