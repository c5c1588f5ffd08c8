"""fastdecode compared with other libraries: same work, same machine, same run."""
