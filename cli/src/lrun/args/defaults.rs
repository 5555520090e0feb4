//! What `run` does where nothing is said: the defaults of the definitions, for who does without these.

use lrun::state::Restart;

use super::create::{CreateArguments, LogDriver};
use super::descriptors::DescriptorArguments;
use super::health::HealthArguments;
use super::namespace::NamespaceArgument;
use super::network::NetworkArgument;
use super::refused::RefusedArguments;
use super::resources::{CgroupsArgument, ResourceArguments, SystemdArgument};
use super::run::{ImageVolume, PullPolicy, RunArguments, UserNamespaceArgument};
use super::variables::VariableArguments;
use crate::global::RegistryArguments;

/// Bytes of `/dev/shm`.
const SHM_SIZE: u64 = 64 << 20;
const UMASK: u32 = 0o022;
/// Seconds that `stop` waits.
const STOP_TIMEOUT: u64 = 10;

impl Default for RunArguments {
    fn default() -> Self {
        Self {
            detach: false,
            create: CreateArguments {
                labels: Vec::new(),
                label_file: Vec::new(),
                cidfile: None,
                pidfile: None,
                conmon_pidfile: None,
                replace: false,
                requires: Vec::new(),
                timeout: 0,
                log_driver: LogDriver::File,
                sdnotify: false,
                restart: Restart::No,
                log_size: Vec::new(),
                stop_signal: None,
                secrets: Vec::new(),
                health: HealthArguments::default(),
                stop_timeout: STOP_TIMEOUT,
            },
            rm: false,
            interactive: false,
            tty: false,
            env: Vec::new(),
            env_file: Vec::new(),
            variables: VariableArguments::default(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            volumes_from: Vec::new(),
            image_volume: ImageVolume::Bind,
            workdir: None,
            user: None,
            name: None,
            hostname: None,
            entrypoint: None,
            read_only: false,
            read_only_tmpfs: true,
            network: NetworkArgument::None,
            publish: Vec::new(),
            publish_all: false,
            expose: Vec::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            security: Vec::new(),
            init: false,
            userns: UserNamespaceArgument::Usual,
            landlock: Vec::new(),
            group_add: Vec::new(),
            passwd: true,
            passwd_entry: None,
            group_entry: None,
            pid: NamespaceArgument::Private,
            ipc: NamespaceArgument::Private,
            uts: NamespaceArgument::Private,
            cgroupns: NamespaceArgument::Private,
            timens: false,
            device: Vec::new(),
            add_host: Vec::new(),
            no_hosts: false,
            hosts_file: None,
            no_hostname: false,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_option: Vec::new(),
            ulimit: Vec::new(),
            sysctl: Vec::new(),
            shm_size: SHM_SIZE,
            umask: UMASK,
            oom_score_adj: None,
            tz: None,
            chrootdirs: Vec::new(),
            personality: None,
            descriptors: DescriptorArguments::default(),
            annotation: Vec::new(),
            no_holder: false,
            resources: ResourceArguments::default(),
            cgroup_parent: None,
            cgroups: CgroupsArgument::Wanted,
            systemd: SystemdArgument::Found,
            rootfs: false,
            runtime: None,
            pull: PullPolicy::Missing,
            registry: RegistryArguments {
                platform: None,
                arch: None,
                os: None,
                variant: None,
                tls_verify: true,
                authfile: None,
                min_rate: None,
            },
            refused: RefusedArguments,
            words: Vec::new(),
        }
    }
}
