// A library that makes the tool's files and its way to the daemon what they rarely are.

import Foundation
import TestSupport
import Testing

/// What Tests/Interposer/files.c does to a program that it is loaded into.
enum FileFaults {
    /// The library, compiled by the toolchain's C compiler; nil: there is none, or the tool has a
    /// sanitizer, which has to be loaded first.
    static let library: String? = {
        guard !DaemonProcess.isSanitized else { return nil }
        let source = ProjectFolder.root.appendingPathComponent("Tests/Interposer/files.c").path
        let target = ProjectFolder.executable("smalloc-test-files.so")
        let options = ["-std=c11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", target]
        for compiler in ["clang", "cc"] {
            let run = try? Spawn.run(["/usr/bin/env", compiler] + options + [source])
            if run?.code == 0 { return target }
        }
        return nil
    }()

    /// Says why a test does not run where there is no library.
    static var isThere: ConditionTrait {
        .enabled(if: library != nil, "needs a C compiler, and no sanitizer")
    }
}
