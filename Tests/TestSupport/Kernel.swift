// Numbers of the kernel's interface that the C library keeps to itself.

/// The kernel that the tests run on.
public enum Kernel {
    /// F_SETPIPE_SZ of fcntl(2), which glibc keeps behind `_GNU_SOURCE`.
    public static let setPipeSize: Int32 = 1031
}
