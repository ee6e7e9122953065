//! The box itself: if these fail, look here first.

use crate::boxed::{Boxed, Options};

#[test]
fn a_box_boots_runs_a_unit_and_leaves_nothing_behind() {
    let Some(machine) = Options::default().file("/etc/a/file", "text").boot() else { return };
    assert!(machine.is_active("basic.target"));
    assert_eq!(machine.ok("cat /etc/a/file"), "text");
    machine.write("/etc/systemd/system/hello.service", "[Service]\nExecStart=/bin/echo hello from the box\n");
    machine.ok("systemctl daemon-reload && systemctl start hello");
    machine
        .until("the journal has the line", || machine.journal("-u hello").contains("hello from the box").then_some(()));
    assert!(machine.main_pid("dbus.service").is_some() || machine.ok("busctl list").contains("systemd1"));
    assert!(machine.ok("node -e 'console.log(1 + 1)'") == "2");
    let name = machine.ok("hostname");
    drop(machine);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        assert!(!std::path::Path::new(hierarchy).join(&name).exists());
    }
}

#[test]
fn boxes_are_apart() {
    let (Some(one), Some(other)) = (Boxed::boot(), Boxed::boot()) else { return };
    one.write("/etc/mark", "one");
    assert!(!other.path("/etc/mark").exists());
    assert!(!std::path::Path::new("/etc/mark").exists());
    assert_ne!(one.ok("hostname"), other.ok("hostname"));
}

#[test]
fn a_box_boots_again_on_the_same_disk() {
    let Some(mut machine) = Options::default().multi_user().boot() else { return };
    for orderly in [true, false, true] {
        machine.write("/etc/mark", &orderly.to_string());
        machine.write("/run/mark", "");
        let boot = machine.ok("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic");
        if orderly {
            machine.reboot();
        } else {
            machine.power_loss();
        }
        assert!(machine.is_active("multi-user.target"));
        assert_eq!(machine.ok("cat /etc/mark"), orderly.to_string());
        assert!(!machine.path("/run/mark").exists(), "/run is new");
        let now = machine.ok("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic");
        assert_ne!(boot, now);
    }
    let name = machine.ok("hostname");
    drop(machine);
    for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        assert!(!std::path::Path::new(hierarchy).join(&name).exists());
    }
}
