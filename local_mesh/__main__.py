from local_mesh.cli import main

main()
