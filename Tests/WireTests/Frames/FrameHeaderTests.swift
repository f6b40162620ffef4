import SmallocWire
import Testing
import TestSupport

@Suite("Frame header", .timed)
struct FrameHeaderTests {
    @Test("every field stands where the specification says, little-endian")
    func layout() {
        var header = FrameHeader(
            magic: 0xE5, operation: 8, flags: 1, status: 0x8003, nameSize: 5, type: 9,
            cookie: 0x0102_0304_0506_0708, handle: 0x1112_1314, payloadSize: 0x2122_2324,
            offset: 0x3132_3334_3536_3738, size: 0x4142_4344_4546_4748)
        header.version = 7
        let expected: [UInt8] = [
            0xE5, 7, 8, 1, 0x03, 0x80, 5, 9,
            8, 7, 6, 5, 4, 3, 2, 1,
            0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21,
            0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
            0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
        ]
        var bytes = [UInt8](repeating: 0xAA, count: 42)
        bytes.withUnsafeMutableBytes { header.write(to: $0.baseAddress! + 1) }
        #expect(Array(bytes[1...40]) == expected)
        #expect(bytes[0] == 0xAA && bytes[41] == 0xAA)
        let back = bytes.withUnsafeBytes { FrameHeader(from: $0.baseAddress! + 1) }
        #expect(back == header)
    }

    @Test("a new header is of the current version and otherwise zero")
    func defaults() {
        let header = FrameHeader(magic: FrameHeader.replyMagic, operation: 2)
        var bytes = [UInt8](repeating: 0xAA, count: FrameHeader.byteCount)
        bytes.withUnsafeMutableBytes { header.write(to: $0.baseAddress!) }
        #expect(bytes == [0xE6, 1, 2] + [UInt8](repeating: 0, count: 37))
        #expect(FrameHeader.requestMagic == 0xE5)
        #expect(FrameHeader.requestMagic >= 0x80)
        #expect(FrameHeader.currentVersion == 1)
    }

    @Test("random headers go through bytes unchanged")
    func random() {
        var random = SplitMix(for: "frame headers")
        for _ in 0..<1_000 {
            let bytes = random.bytes(FrameHeader.byteCount)
            let header = bytes.withUnsafeBytes { FrameHeader(from: $0.baseAddress!) }
            var back = [UInt8](repeating: 0, count: FrameHeader.byteCount)
            back.withUnsafeMutableBytes { header.write(to: $0.baseAddress!) }
            #expect(back == bytes)
        }
    }
}
