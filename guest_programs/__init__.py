"""Guest programs: C sources, the built ELF files and their manifest. README.md says how to add one."""
