//! What the longer helps end with.

/// Of all commands.
pub(super) const EXAMPLES: &str = "\
Examples:
  lrun --rm -it debian:12                     a shell in a new container; pulled if needed
  lrun --rm -v .:/src -w /src gcc:14 make     build what is in the working directory
  lrun --rm --network host debian:12 apt-get update
  lrun info                                   what this machine allows

'lrun IMAGE' is short for 'lrun run IMAGE', whose flags 'lrun run --help' explains.
An image that is named like a command, such as 'info', needs the long form. 'lrun oci --help'
tells of the runtime of the OCI, for podman, containerd and docker.

Environment:
  LSTORE_ROOT, XDG_DATA_HOME                  where the store is";

/// Of `lrun run`.
pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  lrun run --rm -it debian:12 bash
  lrun run --rm -v ./src:/src:ro -w /src --tmpfs /tmp debian:12 make test
  lrun run --rm -v cache:/var/cache app:1     a volume, made if there is none of the name
  lrun run --rm -e LANG=C.UTF-8 --env-file ci.env -u 1000:1000 app:1
  lrun run --rm --network pasta -p 8080:80 web:1
  lrun run --rm --read-only --cap-drop ALL --security-opt no-new-privileges app:1
  lrun run --rm --rootfs ./rootfs /bin/sh     over a directory instead of an image

Flags end at the image: what follows it belongs to the command in the container.

Exit status: that of the command; 128+n if signal n killed it; 127 if it was not found,
126 if it cannot be executed, 125 if the container could not be started.";
