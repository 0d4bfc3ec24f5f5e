package transform

// FunctionNames lets the test of the document see what it must have.
var FunctionNames = functionNames
