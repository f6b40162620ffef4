// What the kernel that the tests run on can do.

import Foundation

/// The running kernel.
public enum Kernel {
    /// Whether the daemon lends pages on it: Linux 6.5 and later.
    public static let lendsPages: Bool = {
        let version = ProcessInfo.processInfo.operatingSystemVersion
        return (version.majorVersion, version.minorVersion) >= (6, 5)
    }()

    /// F_SETPIPE_SZ of fcntl(2), which glibc keeps behind `_GNU_SOURCE`.
    public static let setPipeSize: Int32 = 1031
}
