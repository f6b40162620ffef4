import Foundation

/// Everything that a run measured, as it goes into the JSON file.
struct Report: Codable {
    /// Changes with the meaning of the fields.
    var format = 1
    let date: Date
    let machine: Machine
    let rounds: Int
    let seconds: Double
    let series: [Series]
    let marks: [Mark]

    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.dateEncodingStrategy = .iso8601
        try encoder.encode(self).write(to: URL(fileURLWithPath: path))
    }

    static func read(from path: String) throws -> Report {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        return try decoder.decode(
            Report.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }
}
