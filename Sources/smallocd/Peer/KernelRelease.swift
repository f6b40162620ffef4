// Which Linux this is: what a call does may depend on it, and trying would not tell.

import Glibc

/// The first two numbers of a kernel's release: 6.5 of `6.5.0-rc1`.
struct KernelRelease: Comparable {
    let major: Int
    let minor: Int

    init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// - Parameter text: As `uname -r` prints it; nil if it does not begin with two numbers.
    init?(_ text: String) {
        let parts = text.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, let major = Int(parts[0]),
            let minor = Int(parts[1].prefix { $0.isASCII && $0.isNumber })
        else { return nil }
        self.init(major, minor)
    }

    /// That of the running kernel.
    static var current: KernelRelease? {
        var names = utsname()
        guard uname(&names) == 0 else { return nil }
        return withUnsafeBytes(of: &names.release) {
            KernelRelease(String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self))
        }
    }

    static func < (left: KernelRelease, right: KernelRelease) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }
}
