import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Name hash", .timed)
struct NameHashTests {
    /// SipHash-1-3 of the bytes 0, 1, 2… under the key 0, 1, 2… 15.
    ///
    /// From an implementation that gives the published vectors of SipHash-2-4 and, under the key 0,
    /// the hashes of Python 3.11.
    static let vectors: [(count: Int, hash: UInt64)] = [
        (0, 0xabac_0158_050f_c4dc), (1, 0xc9f4_9bf3_7d57_ca93), (2, 0x82cb_9b02_4dc7_d44d),
        (3, 0x8bf8_0ab8_e7dd_f7fb), (4, 0xcf75_5760_88d3_8328), (7, 0xd392_7d98_9bb1_1140),
        (8, 0x3690_9511_8d29_9a8e), (9, 0x25a4_8eb3_6c06_3de4), (10, 0x79de_85ee_92ff_097f),
        (15, 0xd320_d86d_2a51_9956), (16, 0xcc4f_dd1a_7d90_8b66), (31, 0x2370_dd1f_8c21_d1bc),
        (63, 0x9d19_9062_b7bb_b3a8), (255, 0xf762_14e3_153c_4a15),
    ]

    @Test("it is SipHash-1-3", arguments: vectors)
    func published(_ count: Int, _ hash: UInt64) {
        let keyed = NameHash(key: (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908))
        let bytes = (0..<count).map { UInt8($0) }
        // Memory of exactly this size, so that a sanitizer sees a read beyond it.
        #expect(withExactCopy(of: bytes) { keyed.hash(of: $0) } == hash)
    }

    @Test("each registry has a key of its own")
    func keys() {
        let name = Array("name".utf8)
        let hashes = (0..<8).map { _ in name.withUnsafeBytes { NameHash().hash(of: $0) } }
        #expect(Set(hashes).count == 8)
        let places = (0..<8).map { _ in
            let registry = TestDaemon().registry
            let bucket = name.withUnsafeBytes { registry.bucket(of: $0) }
            return UInt64(bucket.shard) << 16 | bucket.tag
        }
        #expect(Set(places).count > 1)
    }

    @Test("names that differ in a digit are spread evenly over shards, and over tags")
    func even() {
        let registry = TestDaemon().registry
        let count = 65_536
        var shards = [Int](repeating: 0, count: Registry.shardCount)
        var tags = [Int](repeating: 0, count: 256)
        for number in 0..<count {
            let bucket = Array("name/\(number)".utf8).withUnsafeBytes { registry.bucket(of: $0) }
            shards[bucket.shard] += 1
            tags[Int(bucket.tag >> 8)] += 1
        }
        // Chi-squared is about its degrees of freedom; six deviations off is once in 10^9 keys.
        for counts in [shards, tags] {
            let expected = Double(count) / Double(counts.count)
            let chi = counts.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) }
            let freedom = Double(counts.count - 1)
            #expect(abs(chi / expected - freedom) < 6 * (2 * freedom).squareRoot())
        }
    }
}
