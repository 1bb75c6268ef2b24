from grpc_client.cli import main

main()
