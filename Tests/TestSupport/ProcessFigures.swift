// What the kernel says about a process: memory, time, descriptors.

public import Foundation

/// Figures of a running process, read from /proc.
public struct ProcessFigures: Sendable {
    /// Resident memory, bytes.
    public let residentSize: Int
    /// Virtual memory, bytes.
    public let virtualSize: Int
    /// Processor time used so far, in user mode and in the kernel.
    public let cpuSeconds: Double
    /// Open descriptors.
    public let descriptors: Int
    /// Those of them that are memory files.
    public let memoryFiles: Int
    /// Threads.
    public let threads: Int

    /// The figures of `pid` now; nil if it is gone.
    public init?(pid: pid_t) {
        guard let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8),
            let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let open = try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd"),
            let afterName = stat.range(of: ") ", options: .backwards)
        else { return nil }
        func field(_ key: String) -> Int {
            let line = status.split(separator: "\n").first { $0.hasPrefix(key + ":") }
            let digits = line?.filter(\.isNumber) ?? ""
            return Int(digits) ?? 0
        }
        // utime and stime are fields 14 and 15 of stat, which has state (3) after the name.
        let words = stat[afterName.upperBound...].split(separator: " ")
        let ticks = (Double(words[11]) ?? 0) + (Double(words[12]) ?? 0)
        residentSize = field("VmRSS") * 1024
        virtualSize = field("VmSize") * 1024
        threads = field("Threads")
        cpuSeconds = ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
        descriptors = open.count
        memoryFiles =
            open.filter {
                (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\($0)"))?
                    .hasPrefix("/memfd:") == true
            }.count
    }
}
