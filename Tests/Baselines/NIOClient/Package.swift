// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nothing else of the project depends on SwiftNIO.
let package = Package(
    name: "NIOClient",
    dependencies: [.package(url: "https://github.com/apple/swift-nio", from: "2.101.2")],
    targets: [
        .executableTarget(
            name: "NIOClient",
            dependencies: [
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ])
    ],
    swiftLanguageModes: [.v6]
)
