@main
struct SmallocCLI {
    static func main() {}
}
