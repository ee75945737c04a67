#!/bin/bash
# Leaves something and then fails.
echo "half a result" >partial.txt
echo "the mesh has a hole" >&2
exit 3
