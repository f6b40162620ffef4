// What the daemon knows of the system's memory, and asks of it before it serves.

internal import CSmalloc
internal import Glibc

/// The system's memory.
public enum SystemMemory {
    /// Bytes of a page.
    static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
    /// Bytes of a huge page, and the alignment of what may become one.
    static let hugePageSize = 2 << 20

    /// Bytes set aside at the start for what can't fail: a kilobyte for each of 3,000 connections.
    ///
    /// Less than what the heap keeps at its end: `smalloc_prepare_heap`.
    private static let reserveSize = 3 << 20

    /// Prepares the C library's heap, whose large blocks would be kernel mappings otherwise, and
    /// sets the reserve aside.
    ///
    /// To be called once, by the main thread, before the first other one is started.
    ///
    /// - Returns: False: the C library has refused a setting, and works as it does by default, or
    ///   there is no memory for the reserve.
    @discardableResult
    public static func prepare() -> Bool {
        smalloc_touch_stack()
        return smalloc_prepare_heap() && smalloc_set_reserve(reserveSize)
    }

    /// Takes the reserve back if it was spent, and there is memory for it again.
    ///
    /// To be called every second or so, from any thread; calls for memory try it as well.
    public static func keepReserve() { _ = smalloc_keep_reserve() }

    /// The kernel mappings that allocations may take together.
    ///
    /// Half of what the kernel allows a process, less a reserve: the kernel cuts a mapping in two
    /// where its pages are of two kinds, which doubles the number at worst. The reserve is for
    /// threads, libraries, and the C library's heap.
    static let mappingsMax: UInt64 = {
        let reserve: UInt64 = 1024
        let half = (numberInFile("/proc/sys/vm/max_map_count") ?? 65_530) / 2
        return half > 2 * reserve ? half - reserve : half / 2
    }()

    /// Whether clients may map memory.
    ///
    /// With a `vm.overcommit_memory` of 2 the kernel counts pages of memory files when they are
    /// made, and a SIGBUS ends a process that touches one which it refuses. Pages that are made
    /// before they are touched are no way out: a client that has them mapped can give them back.
    /// With any other value the kernel refuses none.
    public static let mapsFiles = numberInFile("/proc/sys/vm/overcommit_memory") != 2

    /// Whether the kernel gives huge pages to memory that clients map: the word that is chosen in
    /// `shmem_enabled`, of which `always`, `within_size` and `advise` mean yes.
    public static var sharedHugePages: String {
        let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "unknown" }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 128)
        let count = max(0, read(file, &bytes, bytes.count))
        let words = String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: " ")
        guard let chosen = words.first(where: { $0.hasPrefix("[") }) else { return "unknown" }
        return String(chosen.dropFirst().prefix { $0 != "]" })
    }

    /// The number that a small file begins with; nil if it can't be read, or begins with none.
    static func numberInFile(_ path: String) -> UInt64? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 32)
        let count = read(file, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let digits = bytes.prefix(count).prefix { (0x30...0x39).contains($0) }
        return UInt64(String(decoding: digits, as: UTF8.self))
    }
}
