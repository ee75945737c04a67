#!/bin/bash
# Leaves something and then never ends by itself.
echo "half a result" >partial.txt
sleep 3600
